/* The first line says what to do with the connection. */
#include "sockserve/blocking.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *copy(sockserve_connection *connection) {
  char bytes[10000];
  ssize_t count;

  while ((count = sockserve_read(connection, bytes, sizeof bytes)) > 0)
    if (!sockserve_write(connection, bytes, (size_t)count)) break;
  return sockserve_error(connection);
}

const char *sockserve_handle(sockserve_connection *connection) {
  char *line = NULL;
  size_t room = 0;
  const char *why = NULL;
  ssize_t length = sockserve_getline(connection, &line, &room);

  if (length < 0) {
    why = sockserve_error(connection);
  } else if (strcmp(line, "who\n") == 0) {
    sockserve_printf(connection, "%s\n", sockserve_peer(connection));
  } else if (strcmp(line, "copy\n") == 0) {
    why = copy(connection);
  } else if (strcmp(line, "finish\n") == 0) {
    /* It can still read, and not write. */
    sockserve_write(connection, "bye\n", 4);
    bool finished = sockserve_finish_writing(connection);
    length = sockserve_getline(connection, &line, &room);
    fprintf(stderr, "%d %.*s\n", finished, (int)length - 1, line);
    if (!sockserve_write(connection, "more\n", 5)) why = sockserve_error(connection);
  } else if (strcmp(line, "fail\n") == 0) {
    why = "no luck today";
  } else {
    /* A line of any length, which may have no end. */
    sockserve_printf(connection, "%zd %d\n", length, line[length] == 0);
  }
  free(line);
  return why;
}
