"""`harvestd status --watch`: redrawn on a terminal, refused elsewhere, ended with Ctrl-C."""

from __future__ import annotations

from tests.builders import a_run, a_tenant, query
from tests.cli.shell import harvestd, terminal


async def test_a_watched_status_is_drawn_again_until_ctrl_c_ends_it_with_0(
    database_url: str,
) -> None:
    await a_tenant(database_url, "acme")
    await a_run(database_url, "acme/git/commit")
    settings = {"DATABASE_URL": database_url}
    with terminal("status", "acme", "--watch", "0.2", settings=settings) as screen:
        await screen.until("PENDING")
        await query(database_url, "UPDATE data_source_run SET status = 'COMPLETED', fence = 1")
        await screen.until("COMPLETED")
        await screen.until("every 0.2 s; Ctrl-C ends it")
        screen.type("\x03")
        code = await screen.ended()

    assert code == 0
    assert screen.said.count("\x1b[H\x1b[2J") >= 2


async def test_a_watch_where_nobody_sees_it_is_a_mistake_in_usage(database_url: str) -> None:
    piped = await harvestd("status", "--watch", url=database_url)
    json = await harvestd("status", "--watch", "5", "--json", url=database_url)

    assert (piped.code, json.code) == (2, 2)
    assert "--watch redraws a terminal, and there is none" in piped.err
    assert "next: leave --watch out" in piped.err


async def test_a_watch_says_how_often_it_may_redraw() -> None:
    settings = {"DATABASE_URL": "postgresql://app:x@127.0.0.1:1/app"}
    with terminal("status", "--watch", "0", settings=settings) as screen:
        assert await screen.ended() == 2
    assert "0.2 to 3600 seconds" in screen.said


async def test_a_watch_waits_for_a_database_that_is_away() -> None:
    settings = {"DATABASE_URL": "postgresql://app:x@127.0.0.1:1/app"}
    with terminal("status", "--watch", "0.2", settings=settings) as screen:
        await screen.until("cannot be reached")
        await screen.until("every 0.2 s")
        screen.type("\x03")
        assert await screen.ended() == 0
