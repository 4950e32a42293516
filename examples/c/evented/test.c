/* The component under `sockserve serve`, over loopback. */
#include "sockserve/testing.h"

/* The next line has to end like this. */
static void expect(FILE *client, const char *end) {
  char line[200];
  sockserve_check(fgets(line, sizeof line, client) != NULL, "a line comes");
  size_t length = strlen(line), expected = strlen(end);
  sockserve_check(length >= expected && strcmp(line + length - expected, end) == 0, line);
}

int main(void) {
  sockserve_server server = sockserve_start("handler.wasm", "tcp");
  FILE *anna = fdopen(sockserve_connect(&server), "r+");
  expect(anna, "\n");
  FILE *berta = fdopen(sockserve_connect(&server), "r+");
  expect(berta, "\n");
  expect(anna, "] has come\n");

  dprintf(fileno(berta), "hello\nan");
  expect(anna, "] hello\n");
  dprintf(fileno(berta), "na\n");
  expect(anna, "] anna\n");
  dprintf(fileno(anna), "hello, berta\n");
  expect(berta, "] hello, berta\n");
  fclose(berta);
  expect(anna, "] has left\n");

  fclose(anna);
  sockserve_stop(&server);
  puts("members hear each other: ok");
}
