#include "blocking.h"

#include "../bindings/blocking.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The most bytes that one read of the host returns. */
#define CHUNK 65536

struct sockserve_connection {
  exports_sockserve_handler_blocking_own_tcp_socket_t socket;
  exports_sockserve_handler_blocking_own_input_stream_t input;
  exports_sockserve_handler_blocking_own_output_stream_t output;
  /* What was read and not taken, from `taken` on. */
  blocking_list_u8_t ahead;
  size_t taken;
  bool at_end;
  /* NULL until they are asked for. */
  char *peer;
  char *error;
};

static char *copy(blocking_string_t *text) {
  char *copied = strndup((const char *)text->ptr, text->len);
  blocking_string_free(text);
  return copied;
}

/* Keeps why a call has failed. */
static void fail(sockserve_connection *connection, const char *why) {
  if (connection->error == NULL) connection->error = strdup(why);
}

static void fail_by(sockserve_connection *connection, wasi_io_streams_stream_error_t *error) {
  if (error->tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED) {
    fail(connection, "the connection is closed");
    return;
  }
  blocking_string_t why;
  wasi_io_error_method_error_to_debug_string(
      wasi_io_error_borrow_error(error->val.last_operation_failed), &why);
  char *copied = copy(&why);
  fail(connection, copied != NULL ? copied : "the connection has failed");
  free(copied);
  wasi_io_streams_stream_error_free(error);
}

/* Reads if nothing is left. Returns how many bytes there are; 0 at the end, -1 for an
 * error. */
static ssize_t fill(sockserve_connection *connection) {
  size_t left = connection->ahead.len - connection->taken;
  if (left > 0 || connection->at_end) return (ssize_t)left;
  blocking_list_u8_free(&connection->ahead);
  connection->ahead = (blocking_list_u8_t){0};
  connection->taken = 0;
  wasi_io_streams_stream_error_t error;
  wasi_io_streams_borrow_input_stream_t input =
      wasi_io_streams_borrow_input_stream(connection->input);
  while (connection->ahead.len == 0) {
    if (wasi_io_streams_method_input_stream_blocking_read(input, CHUNK, &connection->ahead, &error))
      continue;
    connection->ahead = (blocking_list_u8_t){0};
    if (error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED) {
      connection->at_end = true;
      return 0;
    }
    fail_by(connection, &error);
    return -1;
  }
  return (ssize_t)connection->ahead.len;
}

ssize_t sockserve_read(sockserve_connection *connection, void *bytes, size_t room) {
  ssize_t there = fill(connection);
  if (there <= 0) return there;
  size_t count = (size_t)there < room ? (size_t)there : room;
  memcpy(bytes, connection->ahead.ptr + connection->taken, count);
  connection->taken += count;
  return (ssize_t)count;
}

ssize_t sockserve_getline(sockserve_connection *connection, char **line, size_t *room) {
  size_t length = 0;
  for (;;) {
    ssize_t there = fill(connection);
    if (there < 0) return -1;
    const uint8_t *from = connection->ahead.ptr + connection->taken;
    const uint8_t *end = there > 0 ? memchr(from, '\n', (size_t)there) : NULL;
    size_t count = end != NULL ? (size_t)(end - from) + 1 : (size_t)there;
    if (*line == NULL || *room < length + count + 1) {
      size_t larger = 2 * (length + count + 1);
      char *grown = realloc(*line, larger);
      if (grown == NULL) {
        fail(connection, "a line is longer than the memory");
        return -1;
      }
      *line = grown;
      *room = larger;
    }
    if (count > 0) memcpy(*line + length, from, count);
    length += count;
    connection->taken += count;
    (*line)[length] = 0;
    if (end != NULL || there == 0) return (ssize_t)length;
  }
}

bool sockserve_write(sockserve_connection *connection, const void *bytes, size_t length) {
  wasi_io_streams_borrow_output_stream_t output =
      wasi_io_streams_borrow_output_stream(connection->output);
  wasi_io_streams_stream_error_t error;
  const uint8_t *from = bytes;
  while (length > 0) {
    uint64_t permitted;
    if (!wasi_io_streams_method_output_stream_check_write(output, &permitted, &error)) {
      fail_by(connection, &error);
      return false;
    }
    if (permitted == 0) {
      wasi_io_streams_own_pollable_t writable =
          wasi_io_streams_method_output_stream_subscribe(output);
      wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(writable));
      wasi_io_poll_pollable_drop_own(writable);
      continue;
    }
    size_t count = length < permitted ? length : (size_t)permitted;
    blocking_list_u8_t part = {(uint8_t *)from, count};
    if (!wasi_io_streams_method_output_stream_write(output, &part, &error)) {
      fail_by(connection, &error);
      return false;
    }
    from += count;
    length -= count;
  }
  return true;
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

bool sockserve_finish_writing(sockserve_connection *connection) {
  wasi_sockets_0_2_12_tcp_error_code_t error;
  bool finished = wasi_sockets_0_2_12_tcp_method_tcp_socket_shutdown(
      wasi_sockets_0_2_12_tcp_borrow_tcp_socket(connection->socket),
      WASI_SOCKETS_0_2_12_TCP_SHUTDOWN_TYPE_SEND, &error);
  if (!finished) fail(connection, "the connection has failed");
  return finished;
}

const char *sockserve_error(const sockserve_connection *connection) {
  return connection->error;
}

const char *sockserve_peer(sockserve_connection *connection) {
  sockserve_handler_connection_info_info_t info;
  if (connection->peer == NULL &&
      sockserve_handler_connection_info_describe(
          wasi_sockets_0_2_12_tcp_borrow_tcp_socket(connection->socket), &info)) {
    connection->peer = strndup((const char *)info.peer.ptr, info.peer.len);
    sockserve_handler_connection_info_info_free(&info);
  }
  return connection->peer != NULL ? connection->peer : "";
}

bool exports_sockserve_handler_blocking_handle(
    exports_sockserve_handler_blocking_own_tcp_socket_t socket,
    exports_sockserve_handler_blocking_own_input_stream_t input,
    exports_sockserve_handler_blocking_own_output_stream_t output, blocking_string_t *err) {
  sockserve_connection connection = {.socket = socket, .input = input, .output = output};
  const char *why = sockserve_handle(&connection);
  if (why != NULL) blocking_string_dup(err, why);
  blocking_list_u8_free(&connection.ahead);
  free(connection.peer);
  free(connection.error);
  wasi_io_streams_input_stream_drop_own(input);
  wasi_io_streams_output_stream_drop_own(output);
  wasi_sockets_0_2_12_tcp_tcp_socket_drop_own(socket);
  return why == NULL;
}
