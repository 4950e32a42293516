#include "blocking_handler.h"

// Everything comes back.
bool exports_sockserve_handler_blocking_handle(
    exports_sockserve_handler_blocking_own_tcp_socket_t socket,
    exports_sockserve_handler_blocking_own_input_stream_t input,
    exports_sockserve_handler_blocking_own_output_stream_t output,
    blocking_handler_string_t *err) {
  wasi_io_streams_borrow_input_stream_t from = {input.__handle};
  wasi_io_streams_borrow_output_stream_t to = {output.__handle};
  wasi_io_streams_stream_error_t error;
  uint64_t moved;
  while (wasi_io_streams_method_output_stream_blocking_splice(to, from, 65536, &moved, &error)) {
  }
  bool closed = error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED;
  wasi_io_streams_stream_error_free(&error);
  wasi_io_streams_input_stream_drop_own(input);
  wasi_io_streams_output_stream_drop_own(output);
  wasi_sockets_0_2_12_tcp_tcp_socket_drop_own(socket);
  if (!closed) blocking_handler_string_dup(err, "the connection failed");
  return closed;
}
