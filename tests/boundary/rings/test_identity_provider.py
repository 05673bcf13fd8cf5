"""An identity provider that is down, slow, huge, wrong or new: requests are answered as if nothing was, for a day."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from pydantic import SecretStr

from tests import certificates
from tests.boundary.conditions import until
from tests.boundary.ingress_door import HIERARCHY, TENANT, Door, opened, problem_of
from tests.boundary.rings.identity_provider import (
    FAULTS,
    PATH,
    Play,
    Provider,
    dribbling,
    good,
    provided,
    published,
    saying,
    silent,
)
from tests.boundary.rings.identity_provider import development as with_development_keys
from tests.certificates import ADDRESS, Certificates
from tests.conftest import World
from worker.config import load
from worker.dev.tokens import ADMIN_ROLE, JWKS, make_keys, make_token
from worker.ingress import jwks
from worker.ingress.jwks import DEADLINE_S, FILE_INTERVAL_S, JwksError, JwksUrl, Reason
from worker.ingress.keys import AGE_MAX_S, RETRY_INTERVAL_S, WANTED_INTERVAL_S

REFRESH_S = 300.0
NORMAL_S = 2.0
"""What an answer may take on a busy machine; who waited for the provider would take its deadline, 3 s."""
SECRET = "Hq3vZ-swordfish"


class StoppedClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


@dataclass(frozen=True, slots=True)
class Scene:
    """A provider whose key signs the tokens of the door, and what an ingress that asks it is made of."""

    world: World
    files: Certificates
    provider: Provider
    clock: StoppedClock
    new: Path
    """A folder with other keys."""

    @asynccontextmanager
    async def opened(self, **more: object) -> AsyncIterator[Door]:
        """Run an ingress that trusts the provider and is no development one."""
        changed = {
            "jwks_file": None,
            "jwks_url": SecretStr(self.provider.url.replace("https://", f"https://reader:{SECRET}@")),
            "jwks_ca_file": self.files.ca,
            "jwks_refresh_s": REFRESH_S,
            "development": False,
            **more,
        }
        async with opened(self.world.settings, self.provider.folder, clock=self.clock, **changed) as door:
            yield door


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of the provider."""
    return certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def scene(world: World, files: Certificates, tmp_path: Path) -> AsyncIterator[Scene]:
    """A good provider, at the beginning of time."""
    make_keys(tmp_path / "new")
    async with provided(files, tmp_path / "keys") as provider:
        yield Scene(world, files, provider, StoppedClock(), tmp_path / "new")


def bearer(folder: Path) -> dict[str, str]:
    """Return the header of a caller whose token is signed by the key of a folder."""
    return {"Authorization": f"Bearer {make_token(folder, ADMIN_ROLE, TENANT.slug, 600)}"}


async def answered(door: Door, headers: dict[str, str] | None = None) -> httpx.Response:
    """Make a call, and see that it was answered in normal time."""
    began = time.monotonic()
    answer = await door.client.get(HIERARCHY, headers=headers)

    assert time.monotonic() - began < NORMAL_S
    return answer


async def ready(door: Door, path: str = "/readyz") -> dict[str, Any]:
    """Return what the admin port says."""
    async with httpx.AsyncClient(base_url=door.admin) as own:
        said: dict[str, Any] = (await own.get(path)).json()
    return said


def failures(door: Door, reason: str) -> float:
    """Return how many refreshes failed for this reason."""
    return door.metrics.registry.get_sample_value("registration_jwks_refresh_failures_total", {"reason": reason}) or 0


async def let_in_until_failed(door: Door, reason: str, times: float = 1) -> int:
    """Call again and again, and see each call let in, until a refresh has failed; return how many calls it were."""
    calls = 0
    async with asyncio.timeout(15):
        while failures(door, reason) < times:
            assert (await answered(door)).status_code == 200
            calls += 1
    return calls


async def let_in(door: Door, folder: Path, status: int = 200) -> None:
    """Wait until a caller with a key of this folder is let in, or gets another answer."""

    async def is_so() -> bool:
        return (await answered(door, bearer(folder))).status_code == status

    await until(is_so, f"a call with a token of {folder.name} is answered with {status}")


def events(logged: io.StringIO, name: str) -> list[dict[str, Any]]:
    """Return the log's lines of an event."""
    return [line for line in map(json.loads, logged.getvalue().splitlines()) if line["event"] == name]


@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_a_provider_does_wrong_the_last_good_keys_serve(scene: Scene, logged: io.StringIO, fault: str) -> None:
    """Each valid request is let in meanwhile, in normal time; once the provider is good again, what it says holds."""
    play, reason = FAULTS[fault]
    async with scene.opened() as door:
        assert await ready(door) == {"ready": True, "reasons": []}
        scene.provider.play = play
        scene.clock.pass_by(REFRESH_S)
        assert await let_in_until_failed(door, reason) > 0
        problem_of(await answered(door, bearer(scene.new)), 401, "token-invalid")
        scene.clock.pass_by(RETRY_INTERVAL_S)
        await let_in_until_failed(door, reason, times=2)
        assert await ready(door) == {"ready": True, "reasons": []}
        scene.provider.keys, scene.provider.play = [published(scene.new)], good
        scene.clock.pass_by(RETRY_INTERVAL_S)
        await let_in(door, scene.new)
        problem_of(await answered(door), 401, "token-invalid")

    assert set(scene.provider.asked) == {PATH}
    assert [line["reason"] for line in events(logged, "keys.kept")] == [reason]
    assert len(events(logged, "keys.read")) == 2
    assert SECRET not in logged.getvalue()


async def test_a_provider_that_is_down_refuses_nobody_for_a_day_and_its_new_keys_hold_within_30_seconds(
    scene: Scene, logged: io.StringIO, tmp_path: Path
) -> None:
    """Down for ten minutes, then longer and longer; a day later nobody is let in, the process is not ready and says what to do."""
    newest = tmp_path / "newest"
    async with scene.opened() as door:
        await scene.provider.stop()
        began = scene.clock()
        for number, after_s in enumerate((REFRESH_S, 600, 3600, 12 * 3600, AGE_MAX_S), start=1):
            scene.clock.now_s = began + after_s
            await let_in_until_failed(door, "unreachable", times=number)
        assert await ready(door) == {"ready": True, "reasons": []}
        assert door.sample("jwks_age_seconds") == AGE_MAX_S

        scene.clock.pass_by(1)
        refused = await answered(door)
        told = problem_of(refused, 503, "overloaded")
        assert "keys" in told["detail"]
        assert refused.headers["retry-after"] == "10"
        assert await ready(door) == {
            "ready": False,
            "reasons": ["keys of the identity provider: older than 24 h (unreachable)"],
        }
        await until(_true_when(lambda: bool(events(logged, "keys.expired"))), "it says that the keys are too old")

        scene.provider.keys = [published(scene.new)]
        await scene.provider.start()
        scene.clock.pass_by(RETRY_INTERVAL_S)
        await let_in(door, scene.new)
        assert await ready(door) == {"ready": True, "reasons": []}

        scene.provider.keys = [published(newest)]
        problem_of(await answered(door, bearer(newest)), 401, "token-invalid")
        await let_in(door, newest)

    assert len(events(logged, "keys.expired")) == 1
    assert len(events(logged, "keys.kept")) == 1
    assert SECRET not in logged.getvalue()


def _true_when(condition: Callable[[], object]) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return bool(condition())

    return is_so


@pytest.mark.parametrize("fault", ["down", "dribbling", "development", "empty"])
async def test_an_ingress_that_never_had_keys_is_not_ready_and_blames_no_token(scene: Scene, fault: str) -> None:
    """It starts all the same; a caller whose token can't be checked is told to come again, and is served once there are keys."""
    if fault == "down":
        await scene.provider.stop()
    else:
        scene.provider.play = {"dribbling": dribbling, "development": with_development_keys, "empty": saying({"keys": []})}[fault]
    async with scene.opened() as door:
        refused = await answered(door)
        problem_of(refused, 503, "overloaded")
        problem_of(await answered(door, {"Authorization": ""}), 401, "token-missing")
        problem_of(await answered(door, {"Authorization": "Bearer abc"}), 401, "token-invalid")
        (reason,) = (await ready(door))["reasons"]
        assert reason.startswith("keys of the identity provider: never read")
        assert refused.headers["retry-after"] == "10"
        assert door.sample("jwks_age_seconds") == float("inf")

        scene.provider.play = good
        await scene.provider.stop()
        await scene.provider.start()
        await until(_true_when(lambda: any(failures(door, reason) for reason in get_args(Reason))), "its first try has ended")
        scene.clock.pass_by(RETRY_INTERVAL_S)
        await let_in(door, scene.provider.folder)
        assert await ready(door) == {"ready": True, "reasons": []}


async def test_development_keys_of_a_provider_are_good_for_development_only(scene: Scene) -> None:
    """The same answer, and a process that `registration dev` has started takes it."""
    scene.provider.play = with_development_keys
    async with scene.opened(development=True) as door:
        assert (await answered(door)).status_code == 200


async def test_unknown_keys_ask_for_one_refresh_in_30_seconds(scene: Scene) -> None:
    """Anybody can send such tokens: each is refused at once, and the provider is asked once, then again 30 s later."""

    async def flood() -> None:
        for answer in await asyncio.gather(*(answered(door, bearer(scene.new)) for _ in range(20))):
            problem_of(answer, 401, "token-invalid")

    async with scene.opened() as door:
        assert len(scene.provider.asked) == 1
        await flood()
        await until(_true_when(lambda: len(scene.provider.asked) == 2), "the provider is asked")
        await flood()
        scene.clock.pass_by(WANTED_INTERVAL_S - 1)
        await flood()
        assert len(scene.provider.asked) == 2
        scene.provider.keys.append(published(scene.new))
        scene.clock.pass_by(1)
        await let_in(door, scene.new)
        assert len(scene.provider.asked) == 3
        assert (await answered(door)).status_code == 200


async def test_a_provider_that_can_not_prove_who_it_is_is_not_believed(scene: Scene, tmp_path: Path) -> None:
    """Its certificate is another authority's: its keys are not read."""
    async with scene.opened() as door:
        await scene.provider.stop()
        scene.provider.keys = [published(scene.new)]
        (tmp_path / "stranger").mkdir()
        await scene.provider.start(certificates.make(tmp_path / "stranger"))
        scene.clock.pass_by(REFRESH_S)
        await let_in_until_failed(door, "certificate")
        problem_of(await answered(door, bearer(scene.new)), 401, "token-invalid")

    assert len(scene.provider.asked) == 1


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_a_provider_that_takes_connections_and_says_nothing_costs_no_sockets(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Not even TLS is begun; an outage of hours leaves nothing open, whenever Python may collect."""
    monkeypatch.setattr(jwks, "DEADLINE_S", 0.8)
    with socket.create_server((ADDRESS, 0), backlog=50) as mute:
        url = f"{scheme}://{ADDRESS}:{mute.getsockname()[1]}"
        asked = JwksUrl(load(kafka_bootstrap="x", database_url="postgresql://x", jwks_url=url, development=True))
        gc.disable()
        try:
            open_then = set()
            for _ in range(4):
                await _refused(asked)
                open_then.add(_open_files())
        finally:
            gc.enable()

    assert len(open_then) == 1


async def _refused(asked: JwksUrl) -> None:
    with pytest.raises(JwksError, match="did not answer"):
        await asked.read()


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - to count is all


@pytest.mark.parametrize("play", [silent, dribbling])
async def test_an_ingress_ends_while_its_provider_keeps_it_waiting(scene: Scene, play: Play) -> None:
    """A stop does not wait for the fetch."""
    async with scene.opened() as door:
        scene.provider.play = play
        scene.clock.pass_by(REFRESH_S)
        await until(_true_when(lambda: len(scene.provider.asked) == 2), "the fetch has begun")
        began = time.monotonic()
        assert (await answered(door)).status_code == 200

    assert time.monotonic() - began < DEADLINE_S


async def test_a_bug_in_what_keeps_keys_fresh_is_seen(scene: Scene, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go on with the keys that there are, and the process asks to be restarted long before they are too old."""

    async def broken(_self: JwksUrl) -> None:
        raise RuntimeError(SECRET)

    async with scene.opened() as door:
        assert await ready(door, "/livez") == {"alive": True}
        monkeypatch.setattr(JwksUrl, "read", broken)
        scene.clock.pass_by(REFRESH_S)
        await until(_true_when(lambda: bool(events(logged, "ingress.broken"))), "it says so")
        assert await ready(door, "/livez") == {"alive": False}
        assert (await answered(door)).status_code == 200

    assert [line["error"] for line in events(logged, "ingress.broken")] == ["RuntimeError"]
    assert SECRET not in logged.getvalue()


async def test_a_file_is_read_again_and_a_broken_one_changes_nothing(world: World, logged: io.StringIO, tmp_path: Path) -> None:
    """A mounted secret is exchanged by a link to another folder."""
    old, new, link = tmp_path / "old", tmp_path / "new", tmp_path / "link"
    for folder in (old, new):
        content = {"keys": [published(folder)]}
        (folder / "public.json").write_text(json.dumps(content))
    link.symlink_to(old)
    clock, changed = StoppedClock(), {"jwks_file": link / "public.json", "development": False}
    async with opened(world.settings, old, clock=clock, **changed) as door:
        assert (await answered(door)).status_code == 200
        (old / "public.json").write_text('{"keys": [')
        clock.pass_by(FILE_INTERVAL_S)
        await let_in_until_failed(door, "malformed")
        (old / "public.json").unlink()
        clock.pass_by(FILE_INTERVAL_S)
        await let_in_until_failed(door, "unreadable")
        (old / "public.json").write_bytes((new / JWKS).read_bytes())
        clock.pass_by(FILE_INTERVAL_S)
        await let_in_until_failed(door, "development")
        (tmp_path / "other-link").symlink_to(new)
        os.replace(tmp_path / "other-link", link)  # noqa: PTH105 - over the link, as a mount does
        clock.pass_by(FILE_INTERVAL_S)
        await let_in(door, new)
        problem_of(await answered(door), 401, "token-invalid")

    assert [line["reason"] for line in events(logged, "keys.kept")] == ["malformed", "unreadable", "development"]
