/* Echoes its connection line by line, which is its standard input and output. The
 * line `who` is answered with the peer's address instead. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *variable(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}

int main(void) {
  /* A line may be of any length, and of any bytes. */
  char *line = NULL;
  size_t room = 0;
  ssize_t length;

  fprintf(stderr, "hello from C\n");
  while ((length = getline(&line, &room, stdin)) > 0) {
    if (length == 4 && memcmp(line, "who\n", 4) == 0)
      printf("%s %s:%s\n", variable("PROTO"), variable("TCPREMOTEIP"), variable("TCPREMOTEPORT"));
    else
      fwrite(line, 1, (size_t)length, stdout);
    if (fflush(stdout) != 0) {
      perror("cannot write");
      return 1;
    }
  }
  if (ferror(stdin)) {
    perror("cannot read");
    return 1;
  }
  free(line);
  return 0;
}
