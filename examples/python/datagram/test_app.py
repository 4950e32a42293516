import socket
import unittest

from sockserve.testing import Server


class AppTest(unittest.TestCase):
    def test_datagrams_come_back_in_upper_case(self):
        with Server("app.wasm", transport="udp") as server:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(20)
                client.connect(server.address)
                client.send(b"hello")
                self.assertEqual(client.recv(100), b"HELLO")


if __name__ == "__main__":
    unittest.main()
