// Answers each line with its number. Standard input and output are the connection, and each
// connection has an instance of its own, as under inetd.
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
)

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func serve(input io.Reader, output io.Writer) error {
	reader := bufio.NewReader(input)
	for count := 1; ; count++ {
		line, end := reader.ReadString('\n')
		if line != "" {
			if _, err := fmt.Fprintf(output, "%d %s\n", count, strings.TrimRight(line, "\r\n")); err != nil {
				return err
			}
		}
		// The last line may have no end.
		if end == io.EOF {
			return nil
		}
		if end != nil {
			return end
		}
	}
}
