/* A handler of the contract `blocking`: one call serves one connection, and may wait.
 *
 * Each connection has an instance of its own, so what is static is per connection. What the
 * contract says beside this is in the file `blocking.wit`, which `sockserve wit` writes. */
#ifndef SOCKSERVE_BLOCKING_H
#define SOCKSERVE_BLOCKING_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct sockserve_connection sockserve_connection;

/* The handler, which you write. The connection ends when it returns. NULL means that the
 * connection was served; anything else says why not, for the host's log: one line of
 * UTF-8, which is copied. */
const char *sockserve_handle(sockserve_connection *connection);

/* Reads at most `room` bytes, and waits until there is something. Returns how many there
 * are; 0 at the end of what the peer sends; -1 if the connection has failed. */
ssize_t sockserve_read(sockserve_connection *connection, void *bytes, size_t room);

/* Reads a line with its end, as getline(3) does: `*line` is allocated, grows as it has to,
 * and is freed by the caller. The last line may have no end. Returns its length; 0 at the
 * end of what the peer sends; -1 if the connection has failed. */
ssize_t sockserve_getline(sockserve_connection *connection, char **line, size_t *room);

/* Writes all bytes, and waits while the peer does not read. Returns whether that was
 * possible. The host sends them also when the handler has returned. */
bool sockserve_write(sockserve_connection *connection, const void *bytes, size_t length);

/* The same for text, as printf(3) makes it. */
__attribute__((format(printf, 2, 3)))
bool sockserve_printf(sockserve_connection *connection, const char *format, ...);

/* Sends the end of file (FIN) after what was written. Nothing can be written then. */
bool sockserve_finish_writing(sockserve_connection *connection);

/* Why the first call that failed has failed. NULL if none has. */
const char *sockserve_error(const sockserve_connection *connection);

/* Who the peer is: HOST:PORT, or the path of its Unix socket, which may be empty. */
const char *sockserve_peer(sockserve_connection *connection);

#endif
