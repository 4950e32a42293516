/* The component under `sockserve serve`, over loopback. */
#include "sockserve/testing.h"

int main(void) {
  sockserve_server server = sockserve_start("handler.wasm", "udp");
  int client = sockserve_connect(&server);
  sockserve_check(send(client, "hello", 5, 0) == 5, "a datagram is sent");

  char answer[100];
  ssize_t length = recv(client, answer, sizeof answer, 0);
  sockserve_check(length == 5 && memcmp(answer, "HELLO", 5) == 0, "it is answered in upper case");

  close(client);
  sockserve_stop(&server);
  puts("each datagram is answered in upper case: ok");
}
