import socket
import unittest

from sockserve.testing import Server


class AppTest(unittest.TestCase):
    def test_lines_come_back_in_upper_case(self):
        with Server("app.wasm") as server, server.connect() as client:
            answers = client.makefile("rb")
            client.sendall(b"hello\nwor")
            self.assertEqual(answers.readline(), b"HELLO\n")
            client.sendall(b"ld")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(answers.read(), b"WORLD")


if __name__ == "__main__":
    unittest.main()
