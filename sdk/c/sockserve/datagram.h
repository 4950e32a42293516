/* A handler of the contract `datagram`: one call per datagram, which must not wait.
 *
 * By default one instance takes all datagrams, one after the other, so what is static lasts
 * from one to the next. What the contract says beside this is in the file `datagram.wit`,
 * which `sockserve wit` writes. */
#ifndef SOCKSERVE_DATAGRAM_H
#define SOCKSERVE_DATAGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How long the text of an address can be, with its final zero. */
#define SOCKSERVE_ADDRESS 128

typedef struct sockserve_datagram sockserve_datagram;

/* The handler, which you write. What it does not answer has no answer. */
void sockserve_handle(const sockserve_datagram *datagram);

/* The bytes of a datagram, and how many there are: from 0 to 65 535. */
const uint8_t *sockserve_data(const sockserve_datagram *datagram);
size_t sockserve_length(const sockserve_datagram *datagram);

/* Sends bytes to whom the datagram comes from, when the handler has had all that came. It
 * can be called several times. Returns false if there is no memory for them. */
bool sockserve_reply(const sockserve_datagram *datagram, const void *bytes, size_t length);

/* Writes who has sent the datagram: HOST:PORT; the path of a Unix socket, which may be
 * empty; @NAME in the abstract namespace. What is too long is cut. Returns `text`. */
const char *sockserve_peer(const sockserve_datagram *datagram, char text[SOCKSERVE_ADDRESS]);

#endif
