/* Answers each datagram with its text in upper case. */
#include "sockserve/datagram.h"

#include <ctype.h>

void sockserve_handle(const sockserve_datagram *datagram) {
  static uint8_t text[65535];
  size_t length = sockserve_length(datagram);

  for (size_t at = 0; at < length; at++)
    text[at] = (uint8_t)toupper(sockserve_data(datagram)[at]);
  sockserve_reply(datagram, text, length);
}
