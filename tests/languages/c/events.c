/* Echoes, and counts its connections. Three lines have an effect: `count` is answered with
 * how many have been counted on this one, `close` ends the connection, and `flood` is answered
 * with more than may wait. After `slow` it computes for 20 ms for each read of the connection,
 * and answers with how many such reads there were. */
#include "sockserve/evented.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* What is in the place of the count of a connection that is slow. */
#define SLOW -1

void sockserve_opened(sockserve_connection *connection) {
  *sockserve_data(connection) = (void *)(intptr_t)100;
}

static bool says(const char *line, size_t length, const char *word) {
  return length == strlen(word) && memcmp(line, word, length) == 0;
}

/* Milliseconds of a clock that only goes forward. */
static int64_t milliseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * INT64_C(1000) + time.tv_nsec / 1000000;
}

size_t sockserve_received(sockserve_connection *connection, const char *bytes, size_t length,
                          bool at_end) {
  static char page[4096];
  static int reads;
  intptr_t count = (intptr_t)*sockserve_data(connection);

  if (length >= 4 && memcmp(bytes, "slow", 4) == 0) count = SLOW;
  if (count == SLOW) {
    *sockserve_data(connection) = (void *)count;
    if (at_end) return length;
    int64_t begun = milliseconds();
    while (milliseconds() - begun < 20) {
    }
    sockserve_printf(connection, "%d\n", ++reads);
  } else if (says(bytes, length, "who\n")) {
    sockserve_printf(connection, "%s\n", sockserve_peer(connection));
  } else if (says(bytes, length, "count\n")) {
    *sockserve_data(connection) = (void *)++count;
    sockserve_printf(connection, "%d\n", (int)count);
  } else if (says(bytes, length, "close\n")) {
    sockserve_write(connection, "bye\n", 4);
    sockserve_close(connection);
    fprintf(stderr, "more: %d\n", sockserve_write(connection, "more", 4));
  } else if (says(bytes, length, "flood\n")) {
    while (sockserve_write(connection, page, sizeof page)) {
    }
  } else if (length >= 5 && memcmp(bytes, "keep\n", 5) == 0) {
    /* Never taken, until the end. */
    if (at_end) fprintf(stderr, "kept: %zu\n", length);
    return 0;
  } else {
    sockserve_write(connection, bytes, length);
  }
  return length;
}

void sockserve_closed(sockserve_connection *connection) {
  int others = 0;
  const sockserve_connection *one = sockserve_first();
  for (; one != NULL; one = sockserve_next(one)) others++;
  fprintf(stderr, "closed: %d are left\n", others);
  sockserve_write(connection, "too late", 8);
}
