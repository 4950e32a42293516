// Each line comes back with its number. One call serves a connection, and may wait.
export const blocking = {
  handle(socket, input, output) {
    let count = 0;
    let rest = "";
    const answer = (line) => write(output, `${++count} ${line.replace(/\r$/, "")}\n`);
    for (let chunk = read(input); chunk !== null; chunk = read(input)) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop();
      lines.forEach(answer);
    }
    if (rest !== "") answer(rest);
  },
};

// What the peer has sent, a character a byte, or null at its end.
function read(input) {
  try {
    return Array.from(input.blockingRead(4096), (byte) => String.fromCharCode(byte)).join("");
  } catch (error) {
    if ((error.payload ?? error).tag === "closed") return null;
    throw error;
  }
}

// One write may have 4096 bytes.
function write(output, text) {
  const bytes = Uint8Array.from(text, (char) => char.charCodeAt(0));
  for (let at = 0; at < bytes.length; at += 4096) {
    output.blockingWriteAndFlush(bytes.slice(at, at + 4096));
  }
}
