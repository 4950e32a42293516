/* The datagram says what to answer. */
#include "sockserve/datagram.h"

#include <string.h>

static bool says(const sockserve_datagram *datagram, const char *word) {
  size_t length = strlen(word);
  return sockserve_length(datagram) == length &&
         memcmp(sockserve_data(datagram), word, length) == 0;
}

void sockserve_handle(const sockserve_datagram *datagram) {
  static unsigned char count;
  char peer[SOCKSERVE_ADDRESS];

  if (says(datagram, "who")) {
    sockserve_peer(datagram, peer);
    sockserve_reply(datagram, peer, strlen(peer));
  } else if (says(datagram, "twice")) {
    sockserve_reply(datagram, "one", 3);
    sockserve_reply(datagram, "two", 3);
  } else if (says(datagram, "many")) {
    for (count = 0; count < 200; count++) sockserve_reply(datagram, &count, 1);
  } else if (!says(datagram, "silence")) {
    sockserve_reply(datagram, sockserve_data(datagram), sockserve_length(datagram));
  }
}
