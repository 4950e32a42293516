// Echoes its connection line by line, which is its standard input and output. The
// line `who` is answered with the peer's address instead.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "hello from Go")
	reader := bufio.NewReader(os.Stdin)
	for {
		// The last line may have no end.
		line, end := reader.ReadBytes('\n')
		if string(line) == "who\n" {
			who := fmt.Sprintf("%s %s:%s\n", os.Getenv("PROTO"), os.Getenv("TCPREMOTEIP"), os.Getenv("TCPREMOTEPORT"))
			line = []byte(who)
		}
		if _, failed := os.Stdout.Write(line); failed != nil {
			fmt.Fprintln(os.Stderr, "cannot write:", failed)
			os.Exit(1)
		}
		if end == io.EOF {
			return
		}
		if end != nil {
			fmt.Fprintln(os.Stderr, "cannot read:", end)
			os.Exit(1)
		}
	}
}
