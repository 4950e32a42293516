import unittest

from sockserve.testing import Server


class AppTest(unittest.TestCase):
    def test_members_hear_each_other(self):
        welcome = b"You're connected to the sockserve chatserver\r\n"
        with Server("app.wasm") as server, server.connect() as anna:
            anna_hears = anna.makefile("rb")
            self.assertEqual(anna_hears.readline(), welcome)
            with server.connect() as berta:
                name = "{}:{}".format(*berta.getsockname()).encode()
                berta_hears = berta.makefile("rb")
                self.assertEqual(berta_hears.readline(), welcome)
                self.assertEqual(anna_hears.readline(), b"Client joined " + name + b"\r\n")
                berta.sendall(b"hello\n")
                self.assertEqual(anna_hears.readline(), b"[" + name + b"] hello\n")
                anna.sendall(b"hello, berta\n")
                self.assertTrue(berta_hears.readline().endswith(b"] hello, berta\n"))
                berta_hears.close()
            self.assertEqual(anna_hears.readline(), b"Client left " + name + b"\r\n")
            anna_hears.close()


if __name__ == "__main__":
    unittest.main()
