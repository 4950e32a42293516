/* Answers each line with its number. One call serves a connection, and may wait. */
#include "sockserve/blocking.h"

#include <stdlib.h>

const char *sockserve_handle(sockserve_connection *connection) {
  char *line = NULL;
  size_t room = 0;
  ssize_t length;
  unsigned long count = 0;

  while ((length = sockserve_getline(connection, &line, &room)) > 0) {
    while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
      line[--length] = 0;
    if (!sockserve_printf(connection, "%lu %s\n", ++count, line)) break;
  }
  free(line);
  return sockserve_error(connection);
}
