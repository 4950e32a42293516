package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// The component under `sockserve serve` (the variable SOCKSERVE names another build), over
// loopback.
func TestEachLineIsAnsweredWithItsNumber(t *testing.T) {
	program := os.Getenv("SOCKSERVE")
	if program == "" {
		program = "sockserve"
	}
	server := exec.Command(program, "serve", "handler.wasm", "--listen", "tcp://127.0.0.1:0")
	server.Stderr = os.Stderr
	ready, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		server.Process.Kill()
		server.Wait()
	}()
	// listening tcp://127.0.0.1:PORT service=…
	var port int
	if _, err := fmt.Fscanf(ready, "listening tcp://127.0.0.1:%d", &port); err != nil {
		t.Fatal("it does not listen: ", err)
	}
	connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(connection, "one\ntwo\r\nthree"); err != nil {
		t.Fatal(err)
	}
	if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(connection)
	if err != nil {
		t.Fatal(err)
	}
	if expected := "1 one\n2 two\n3 three\n"; string(answer) != expected {
		t.Fatalf("%q, expected %q", answer, expected)
	}
}
