// Everything comes back.
export const blocking = {
  handle(socket, input, output) {
    for (;;) {
      let bytes;
      try {
        bytes = input.blockingRead(65536);
      } catch (error) {
        if (error.tag === "closed" || error.payload?.tag === "closed") return;
        throw error;
      }
      for (let at = 0; at < bytes.length; at += 4096) {
        output.blockingWriteAndFlush(bytes.slice(at, at + 4096));
      }
    }
  },
};
