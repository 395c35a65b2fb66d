"""The address of a Ray cluster is tried before any work: Ray itself would ask on for minutes."""

import socket
import threading

import pytest

pytest.importorskip("pyarrow")

from transavs.engine.prediction import on_ray  # noqa: E402


class TestTheAddressOfACluster:
    @pytest.fixture
    def listener(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield listener

    @staticmethod
    def address(listener):
        return f"127.0.0.1:{listener.getsockname()[1]}"

    @staticmethod
    def answer(listener, words):
        def serve():
            with listener.accept()[0] as connection:
                connection.recv(len(on_ray._GREETING))
                connection.sendall(words)

        threading.Thread(target=serve, daemon=True).start()

    @pytest.mark.parametrize("scheme", ["", "ray://"])
    def test_one_that_answers(self, listener, scheme):
        self.answer(listener, bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        on_ray.check_address(scheme + self.address(listener))

    @pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\0\0"])
    def test_another_server(self, listener, words):
        self.answer(listener, words)
        with pytest.raises(ValueError, match=r"no Ray cluster at .*is no Ray\): start one with"):
            on_ray.check_address(self.address(listener))

    def test_one_that_is_silent(self, listener, monkeypatch):
        monkeypatch.setattr(on_ray, "_ANSWER_SECONDS", 0.05)
        with pytest.raises(ValueError, match=r"timed out\): start one with"):
            on_ray.check_address(self.address(listener))

    def test_nobody(self, listener):
        address = self.address(listener)
        listener.close()
        with pytest.raises(ValueError, match=r"refused\): start one with `ray start --head`"):
            on_ray.check_address(address)

    @pytest.mark.parametrize("address", ["nowhere", "http://10.0.0.1:6379", "10.0.0.1:", ":1"])
    def test_no_address(self, address):
        with pytest.raises(ValueError, match="--ray must be HOST:PORT"):
            on_ray.check_address(address)

    def test_what_ray_looks_for_itself(self):
        on_ray.check_address("local")
        on_ray.check_address("auto")
