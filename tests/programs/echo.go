// Echoes its connection, which is its standard input and output. The line `who` is
// answered with the peer's address instead.
//
// It allocates nothing once it runs. Go takes all memory that is added to a module for
// its own, also what the adapter from WASI preview 1 has added, and would write over it
// when its heap grows.
package main

import (
	"bufio"
	"io"
	"os"
)

func main() {
	os.Stderr.WriteString("hello from Go\n")
	who := os.Getenv("PROTO") + " " + os.Getenv("TCPREMOTEIP") + ":" + os.Getenv("TCPREMOTEPORT") + "\n"
	reader := bufio.NewReader(os.Stdin)
	for {
		// A line, or as much of one as there is room for, or the last one without an end.
		line, end := reader.ReadSlice('\n')
		var failed error
		if string(line) == "who\n" {
			_, failed = os.Stdout.WriteString(who)
		} else {
			_, failed = os.Stdout.Write(line)
		}
		if failed != nil {
			os.Stderr.WriteString("cannot write: " + failed.Error() + "\n")
			os.Exit(1)
		}
		if end == io.EOF {
			return
		}
		if end != nil && end != bufio.ErrBufferFull {
			os.Stderr.WriteString("cannot read: " + end.Error() + "\n")
			os.Exit(1)
		}
	}
}
