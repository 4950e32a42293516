/* A chat room: what a member writes, all others read, with the writer's name before it. One
 * instance serves all connections, and is called when something has happened. */
#include "sockserve/evented.h"

#include <string.h>

/* Tells a line to all others. */
static void tell(sockserve_connection *from, const char *line, size_t length) {
  sockserve_connection *member = sockserve_first();
  for (; member != NULL; member = sockserve_next(member))
    if (member != from)
      sockserve_printf(member, "[%s] %.*s\n", sockserve_peer(from), (int)length, line);
}

void sockserve_opened(sockserve_connection *connection) {
  sockserve_printf(connection, "welcome, %s\n", sockserve_peer(connection));
  tell(connection, "has come", 8);
}

size_t sockserve_received(sockserve_connection *connection, const char *bytes, size_t length,
                          bool at_end) {
  size_t taken = 0;
  const char *end;
  (void)at_end;

  while ((end = memchr(bytes + taken, '\n', length - taken)) != NULL) {
    tell(connection, bytes + taken, (size_t)(end - bytes) - taken);
    taken = (size_t)(end - bytes) + 1;
  }
  /* The beginning of a line comes again, with what follows it. */
  return taken;
}

void sockserve_closed(sockserve_connection *connection) {
  tell(connection, "has left", 8);
}
