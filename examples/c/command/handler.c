/* Answers each line with its number. Standard input and output are the connection, and each
 * connection has a process of its own, as under inetd. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

int main(void) {
  char *line = NULL;
  size_t room = 0;
  ssize_t length;
  unsigned long count = 0;

  while ((length = getline(&line, &room, stdin)) > 0) {
    while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
      line[--length] = 0;
    printf("%lu %s\n", ++count, line);
    /* The peer waits for its answer, and the output is no terminal. */
    if (fflush(stdout) != 0) return EXIT_FAILURE;
  }
  free(line);
  return ferror(stdin) ? EXIT_FAILURE : EXIT_SUCCESS;
}
