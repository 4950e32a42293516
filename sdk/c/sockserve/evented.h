/* A handler of the contract `evented`: one instance for all connections, which is called when
 * something has happened, and never waits.
 *
 * What is static is shared by all connections. What the contract says beside this is in the
 * file `evented.wit`, which `sockserve wit` writes. */
#ifndef SOCKSERVE_EVENTED_H
#define SOCKSERVE_EVENTED_H

#include <stdbool.h>
#include <stddef.h>

/* How many bytes may wait, each way: what a handler has not taken, and what a peer has not
 * read. A connection with more fails. */
#define SOCKSERVE_MAX_WAITING (1 << 20)

typedef struct sockserve_connection sockserve_connection;

/* The handler: three functions, which you write. */

/* A connection is there. */
void sockserve_opened(sockserve_connection *connection);

/* Bytes have come. Returns how many are taken; the rest comes again, with what follows it.
 * `at_end` says that nothing follows: the rest is then dropped, and the connection ends when
 * everything that was written is sent. */
size_t sockserve_received(sockserve_connection *connection, const char *bytes, size_t length,
                          bool at_end);

/* The connection has ended, for whatever reason. It is no longer among the others, and must
 * not be used after this. */
void sockserve_closed(sockserve_connection *connection);

/* Writes bytes, to any connection. They wait in memory while the peer does not read: nothing
 * more is read of such a peer, and too much for it ends its connection. Returns false if the
 * connection ends. */
bool sockserve_write(sockserve_connection *connection, const void *bytes, size_t length);

/* The same for text, as printf(3) makes it. */
__attribute__((format(printf, 2, 3)))
bool sockserve_printf(sockserve_connection *connection, const char *format, ...);

/* Ends the connection when everything that was written is sent. Nothing more is received. */
void sockserve_close(sockserve_connection *connection);

/* All open connections: the first, and the one after another. NULL at the end. */
sockserve_connection *sockserve_first(void);
sockserve_connection *sockserve_next(const sockserve_connection *connection);

/* A pointer of the handler's own per connection; NULL at first. */
void **sockserve_data(sockserve_connection *connection);

/* Who the peer is: HOST:PORT, or the path of its Unix socket, which may be empty. */
const char *sockserve_peer(const sockserve_connection *connection);

#endif
