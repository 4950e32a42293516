#include "evented.h"

#include "../bindings/evented.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The most bytes that are read at a time. The handler gets all of them before the time of the
   turn is looked at. */
#define CHUNK 16384
/* With so many bytes waiting for a peer, nothing more is read of it. */
#define FULL 65536
#define BUCKETS 1024
/* A turn reads for so long at most, in nanoseconds. The host ends an instance, with all its
   connections, whose turn takes longer than the deadline, which is 1 s by default; and up to
   1024 peers may send at once. */
#define LONG 50000000
/* The clock is looked at after so many bytes or reads, whichever comes first; and after each read
   if the time since the last look was as long as this, in nanoseconds. */
#define LOOK_BYTES 4096
#define LOOK_READS 8
#define SLOW 1000000

typedef exports_sockserve_handler_evented_change_t change;
typedef exports_sockserve_handler_evented_list_change_t changes;

/* Bytes that wait, from `from` to `end`. */
typedef struct {
  char *bytes;
  size_t from, end, room;
} waiting;

struct sockserve_connection {
  uint64_t id;
  exports_sockserve_handler_evented_own_tcp_socket_t socket;
  exports_sockserve_handler_evented_own_input_stream_t input;
  exports_sockserve_handler_evented_own_output_stream_t output;
  sockserve_connection *previous, *next, *next_in_bucket, *next_touched;
  waiting received, written;
  uint8_t interest;
  bool is_touched, is_closing;
  /* Turns have put it off, those with a lower number before; 0 if not. */
  uint64_t put_off;
  /* Why it fails, if it does. */
  const char *failure;
  char *peer;
  void *data;
};

static sockserve_connection *first, *touched, *buckets[BUCKETS];

static size_t count_of(const waiting *waiting) {
  return waiting->end - waiting->from;
}

/* Adds bytes, if they are not too many. */
static bool add(waiting *waiting, const void *bytes, size_t length) {
  size_t count = count_of(waiting);
  if (length > SOCKSERVE_MAX_WAITING - count) return false;
  if (waiting->from > 0) {
    memmove(waiting->bytes, waiting->bytes + waiting->from, count);
    waiting->from = 0;
    waiting->end = count;
  }
  if (count + length > waiting->room) {
    size_t room = 2 * (count + length);
    char *grown = realloc(waiting->bytes, room);
    if (grown == NULL) return false;
    waiting->bytes = grown;
    waiting->room = room;
  }
  if (length > 0) memcpy(waiting->bytes + count, bytes, length);
  waiting->end += length;
  return true;
}

/* Sees to the connection at the end of the turn. */
static void touch(sockserve_connection *connection) {
  if (connection->is_touched) return;
  connection->is_touched = true;
  connection->next_touched = touched;
  touched = connection;
}

static void fail(sockserve_connection *connection, const char *why) {
  if (connection->failure == NULL) connection->failure = why;
  touch(connection);
}

bool sockserve_write(sockserve_connection *connection, const void *bytes, size_t length) {
  if (connection->failure != NULL || connection->is_closing) return false;
  touch(connection);
  if (add(&connection->written, bytes, length)) return true;
  fail(connection, "the peer does not read what is written to it");
  return false;
}

bool sockserve_printf(sockserve_connection *connection, const char *format, ...) {
  char *text;
  va_list values;
  va_start(values, format);
  int length = vasprintf(&text, format, values);
  va_end(values);
  if (length < 0) {
    fail(connection, "no memory for what is to be written");
    return false;
  }
  bool written = sockserve_write(connection, text, (size_t)length);
  free(text);
  return written;
}

void sockserve_close(sockserve_connection *connection) {
  connection->is_closing = true;
  touch(connection);
}

sockserve_connection *sockserve_first(void) {
  return first;
}

sockserve_connection *sockserve_next(const sockserve_connection *connection) {
  return connection->next;
}

void **sockserve_data(sockserve_connection *connection) {
  return &connection->data;
}

const char *sockserve_peer(const sockserve_connection *connection) {
  return connection->peer != NULL ? connection->peer : "";
}

static sockserve_connection **place_of(uint64_t id) {
  sockserve_connection **place = &buckets[id % BUCKETS];
  while (*place != NULL && (*place)->id != id) place = &(*place)->next_in_bucket;
  return place;
}

static void begin(const exports_sockserve_handler_evented_opened_t *opened) {
  sockserve_connection *connection = calloc(1, sizeof *connection);
  /* Without memory nobody can be served: a trap says so. */
  if (connection == NULL) abort();
  connection->id = opened->connection;
  connection->socket = opened->socket;
  connection->input = opened->input;
  connection->output = opened->output;
  connection->interest = EXPORTS_SOCKSERVE_HANDLER_EVENTED_INTEREST_READABLE;
  sockserve_handler_connection_info_info_t info;
  if (sockserve_handler_connection_info_describe(
          wasi_sockets_0_2_12_tcp_borrow_tcp_socket(connection->socket), &info)) {
    connection->peer = strndup((const char *)info.peer.ptr, info.peer.len);
    sockserve_handler_connection_info_info_free(&info);
  }
  connection->next = first;
  if (first != NULL) first->previous = connection;
  first = connection;
  *place_of(connection->id) = connection;
  sockserve_opened(connection);
}

/* How far this turn is. */
static struct {
  /* When it has begun, and when the clock was last looked at, in nanoseconds. */
  int64_t begun, looked;
  /* The bytes and the reads since then. */
  size_t bytes, reads;
  /* Whether the time before the last look was long. */
  bool is_slow, is_over;
} turn;

/* How often connections were put off. */
static uint64_t put_off;

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

/* Whether this turn reads no more. Called before a read. */
static bool is_over(void) {
  if (turn.is_over || (turn.bytes < LOOK_BYTES && turn.reads < (turn.is_slow ? 1 : LOOK_READS)))
    return turn.is_over;
  int64_t time = now();
  turn.is_slow = time - turn.looked >= SLOW;
  turn.is_over = time - turn.begun >= LONG;
  turn.looked = time;
  turn.bytes = turn.reads = 0;
  return turn.is_over;
}

/* Whether this turn reads from a connection that is ready. If not, it is put off to a later one. */
static bool may_read(sockserve_connection *connection, uint8_t readiness) {
  /* Of an error or a hang-up without input the host may tell only once. */
  if (!(readiness & EXPORTS_SOCKSERVE_HANDLER_EVENTED_READINESS_READABLE) || !is_over()) {
    connection->put_off = 0;
    return true;
  }
  connection->put_off = ++put_off;
  return false;
}

/* Something to read, and its connection. */
typedef struct {
  sockserve_connection *connection;
  uint8_t readiness;
} input;

/* Those that were put off come first, and all others after them. */
static int compare(const void *one, const void *other) {
  /* One less than 0 is the highest number. */
  uint64_t first = ((const input *)one)->connection->put_off - 1;
  uint64_t second = ((const input *)other)->connection->put_off - 1;
  return (first > second) - (first < second);
}

/* Gives the handler what has come. */
static void receive(sockserve_connection *connection, bool at_end) {
  waiting *received = &connection->received;
  size_t count = count_of(received);
  const char *bytes = count > 0 ? received->bytes + received->from : "";
  size_t taken = sockserve_received(connection, bytes, count, at_end);
  received->from += taken < count ? taken : count;
  if (at_end) sockserve_close(connection);
}

static void read_now(sockserve_connection *connection) {
  if (connection->is_closing || connection->failure != NULL) return;
  touch(connection);
  evented_list_u8_t read;
  wasi_io_streams_stream_error_t error;
  wasi_io_streams_borrow_input_stream_t input =
      wasi_io_streams_borrow_input_stream(connection->input);
  if (wasi_io_streams_method_input_stream_read(input, CHUNK, &read, &error)) {
    turn.bytes += read.len;
    turn.reads++;
    bool fits = add(&connection->received, read.ptr, read.len);
    if (read.len > 0 && fits) receive(connection, false);
    if (!fits) fail(connection, "the handler does not take what the peer sends");
    evented_list_u8_free(&read);
  } else if (error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED) {
    receive(connection, true);
  } else {
    fail(connection, "the connection was lost");
    wasi_io_streams_stream_error_free(&error);
  }
}

/* Writes what the host takes now. */
static void write_now(sockserve_connection *connection) {
  waiting *written = &connection->written;
  wasi_io_streams_stream_error_t error;
  wasi_io_streams_borrow_output_stream_t output =
      wasi_io_streams_borrow_output_stream(connection->output);
  while (count_of(written) > 0 && connection->failure == NULL) {
    uint64_t permitted;
    bool works = wasi_io_streams_method_output_stream_check_write(output, &permitted, &error);
    if (works && permitted == 0) return;
    if (works) {
      size_t count = count_of(written) < permitted ? count_of(written) : (size_t)permitted;
      evented_list_u8_t part = {(uint8_t *)written->bytes + written->from, count};
      works = wasi_io_streams_method_output_stream_write(output, &part, &error);
      written->from += count;
    }
    if (!works) {
      connection->failure = "the connection was lost";
      wasi_io_streams_stream_error_free(&error);
    }
  }
}

static void push(changes *made, size_t *room, change one) {
  if (made->len == *room) {
    *room = *room > 0 ? 2 * *room : 64;
    made->ptr = realloc(made->ptr, *room * sizeof *made->ptr);
    if (made->ptr == NULL) abort();
  }
  made->ptr[made->len++] = one;
}

/* The connection has ended: the handler is told, and it is forgotten. */
static void forget(sockserve_connection *connection) {
  *place_of(connection->id) = connection->next_in_bucket;
  if (connection->previous != NULL) connection->previous->next = connection->next;
  else first = connection->next;
  if (connection->next != NULL) connection->next->previous = connection->previous;
  sockserve_closed(connection);
  wasi_io_streams_input_stream_drop_own(connection->input);
  wasi_io_streams_output_stream_drop_own(connection->output);
  wasi_sockets_0_2_12_tcp_tcp_socket_drop_own(connection->socket);
  free(connection->received.bytes);
  free(connection->written.bytes);
  free(connection->peer);
  free(connection);
}

/* What the host has to do for a connection that was touched. */
static void settle(sockserve_connection *connection, changes *made, size_t *room) {
  write_now(connection);
  size_t left = count_of(&connection->written);
  change one = {0};
  if (connection->failure != NULL) {
    one.tag = EXPORTS_SOCKSERVE_HANDLER_EVENTED_CHANGE_FAIL;
    one.val.fail.connection = connection->id;
    evented_string_dup(&one.val.fail.reason, connection->failure);
  } else if (connection->is_closing && left == 0) {
    one.tag = EXPORTS_SOCKSERVE_HANDLER_EVENTED_CHANGE_CLOSE;
    one.val.close = connection->id;
  } else {
    uint8_t interest = 0;
    if (!connection->is_closing && left < FULL)
      interest |= EXPORTS_SOCKSERVE_HANDLER_EVENTED_INTEREST_READABLE;
    if (left > 0) interest |= EXPORTS_SOCKSERVE_HANDLER_EVENTED_INTEREST_WRITABLE;
    if (interest != connection->interest) {
      one.tag = EXPORTS_SOCKSERVE_HANDLER_EVENTED_CHANGE_INTEREST;
      one.val.interest.connection = connection->id;
      one.val.interest.interest = connection->interest = interest;
      push(made, room, one);
    }
    return;
  }
  push(made, room, one);
  /* Nothing is written to it while the handler is told. */
  connection->is_closing = connection->is_touched = true;
  forget(connection);
}

void exports_sockserve_handler_evented_turn(exports_sockserve_handler_evented_list_event_t *events,
                                            changes *made) {
  size_t room = 0;
  *made = (changes){0};
  turn.begun = turn.looked = now();
  turn.bytes = 0;
  turn.is_slow = turn.is_over = false;
  /* The clock is first looked at before the second read. */
  turn.reads = LOOK_READS - 1;
  input *inputs = malloc((events->len + 1) * sizeof *inputs);
  if (inputs == NULL) abort();
  size_t count = 0;
  bool is_any_put_off = false;
  for (size_t at = 0; at < events->len; at++) {
    exports_sockserve_handler_evented_event_t *event = &events->ptr[at];
    if (event->tag == EXPORTS_SOCKSERVE_HANDLER_EVENTED_EVENT_OPENED) begin(&event->val.opened);
    if (event->tag != EXPORTS_SOCKSERVE_HANDLER_EVENTED_EVENT_READY) continue;
    const exports_sockserve_handler_evented_ready_t *ready = &event->val.ready;
    sockserve_connection *connection = *place_of(ready->connection);
    if (connection == NULL) continue;
    touch(connection);
    const uint8_t not_only_writable =
        (uint8_t)~EXPORTS_SOCKSERVE_HANDLER_EVENTED_READINESS_WRITABLE;
    if (!(ready->readiness & not_only_writable)) continue;
    inputs[count++] = (input){connection, ready->readiness};
    is_any_put_off |= connection->put_off > 0;
  }
  if (is_any_put_off) qsort(inputs, count, sizeof *inputs, compare);
  for (size_t at = 0; at < count; at++)
    if (may_read(inputs[at].connection, inputs[at].readiness)) read_now(inputs[at].connection);
  free(inputs);
  /* An end may be told to others, who are touched by that. */
  while (touched != NULL) {
    sockserve_connection *connection = touched;
    touched = connection->next_touched;
    connection->is_touched = false;
    settle(connection, made, &room);
  }
  /* The handles in it belong to the connections by now. */
  free(events->ptr);
}
