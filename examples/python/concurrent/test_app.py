import unittest

from sockserve.testing import Server


class AppTest(unittest.TestCase):
    def test_connections_share_the_instance(self):
        with Server("app.wasm") as server, server.connect() as one, server.connect() as other:
            for number, client in enumerate([one, other, one], 1):
                client.sendall(b"hello\n")
                answers = client.makefile("rb")
                self.assertEqual(answers.readline(), b"%d: HELLO\n" % number)
                answers.close()


if __name__ == "__main__":
    unittest.main()
