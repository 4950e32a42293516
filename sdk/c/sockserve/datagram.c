#include "datagram.h"

#include "../bindings/datagram.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef exports_sockserve_handler_datagram_address_t address;
typedef exports_sockserve_handler_datagram_datagram_t item;
typedef exports_sockserve_handler_datagram_list_datagram_t list;

struct sockserve_datagram {
  const item *item;
  /* The answers to the batch. */
  list *answers;
  size_t *room;
};

const uint8_t *sockserve_data(const sockserve_datagram *datagram) {
  return datagram->item->data.ptr;
}

size_t sockserve_length(const sockserve_datagram *datagram) {
  return datagram->item->data.len;
}

static bool copy_bytes(datagram_list_u8_t *to, const void *bytes, size_t length) {
  *to = (datagram_list_u8_t){malloc(length > 0 ? length : 1), length};
  if (to->ptr == NULL) return false;
  if (length > 0) memcpy(to->ptr, bytes, length);
  return true;
}

static bool copy_address(address *to, const address *from) {
  *to = *from;
  if (from->tag != EXPORTS_SOCKSERVE_HANDLER_DATAGRAM_ADDRESS_UNIX) return true;
  return copy_bytes(&to->val.unix, from->val.unix.ptr, from->val.unix.len);
}

bool sockserve_reply(const sockserve_datagram *datagram, const void *bytes, size_t length) {
  list *answers = datagram->answers;
  if (answers->len == *datagram->room) {
    size_t room = *datagram->room > 0 ? 2 * *datagram->room : 64;
    item *grown = realloc(answers->ptr, room * sizeof *grown);
    if (grown == NULL) return false;
    answers->ptr = grown;
    *datagram->room = room;
  }
  item answer = {0};
  if (copy_address(&answer.peer, &datagram->item->peer) &&
      copy_address(&answer.local, &datagram->item->local) &&
      copy_bytes(&answer.data, bytes, length)) {
    answers->ptr[answers->len++] = answer;
    return true;
  }
  exports_sockserve_handler_datagram_datagram_free(&answer);
  return false;
}

const char *sockserve_peer(const sockserve_datagram *datagram, char text[SOCKSERVE_ADDRESS]) {
  const address *peer = &datagram->item->peer;
  if (peer->tag == EXPORTS_SOCKSERVE_HANDLER_DATAGRAM_ADDRESS_UNIX) {
    const char *name = (const char *)peer->val.unix.ptr;
    size_t length = peer->val.unix.len;
    bool is_abstract = length > 0 && name[0] == 0;
    snprintf(text, SOCKSERVE_ADDRESS, is_abstract ? "@%.*s" : "%.*s",
             (int)(is_abstract ? length - 1 : length), is_abstract ? name + 1 : name);
    return text;
  }
  char host[INET6_ADDRSTRLEN];
  if (peer->val.ip.tag == WASI_SOCKETS_0_2_12_NETWORK_IP_SOCKET_ADDRESS_IPV4) {
    const wasi_sockets_0_2_12_network_ipv4_address_t *ip = &peer->val.ip.val.ipv4.address;
    inet_ntop(AF_INET, (const uint8_t[]){ip->f0, ip->f1, ip->f2, ip->f3}, host, sizeof host);
    snprintf(text, SOCKSERVE_ADDRESS, "%s:%u", host, peer->val.ip.val.ipv4.port);
  } else {
    const wasi_sockets_0_2_12_network_ipv6_address_t *ip = &peer->val.ip.val.ipv6.address;
    const uint16_t groups[] = {htons(ip->f0), htons(ip->f1), htons(ip->f2), htons(ip->f3),
                               htons(ip->f4), htons(ip->f5), htons(ip->f6), htons(ip->f7)};
    inet_ntop(AF_INET6, groups, host, sizeof host);
    snprintf(text, SOCKSERVE_ADDRESS, "[%s]:%u", host, peer->val.ip.val.ipv6.port);
  }
  return text;
}

uint32_t exports_sockserve_handler_datagram_max_data_bytes(void) {
  return 65535;
}

bool exports_sockserve_handler_datagram_receive(list *batch, list *answers,
                                                datagram_string_t *err) {
  (void)err;
  size_t room = 0;
  *answers = (list){0};
  for (size_t at = 0; at < batch->len; at++) {
    sockserve_datagram datagram = {&batch->ptr[at], answers, &room};
    sockserve_handle(&datagram);
  }
  exports_sockserve_handler_datagram_list_datagram_free(batch);
  return true;
}
