/* The component under `sockserve serve`, over loopback. */
#include "sockserve/testing.h"

int main(void) {
  sockserve_server server = sockserve_start("handler.wasm", "tcp");
  int client = sockserve_connect(&server);
  dprintf(client, "one\ntwo\r\nthree");
  shutdown(client, SHUT_WR);

  char answer[100];
  size_t length = 0;
  ssize_t count;
  while ((count = read(client, answer + length, sizeof answer - 1 - length)) > 0)
    length += (size_t)count;
  answer[length] = 0;
  sockserve_check(count == 0, "the connection ends");
  sockserve_check(strcmp(answer, "1 one\n2 two\n3 three\n") == 0, answer);

  close(client);
  sockserve_stop(&server);
  puts("each line is answered with its number: ok");
}
