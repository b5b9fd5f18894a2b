"""The tenant is asked for once a statement, never once a row: an InitPlan in every plan."""

from __future__ import annotations

import re

import pytest

from harvestd.loading.shapes import Shapes
from harvestd.loading.writes import append_statement, upsert_statement
from tests.loading.walls import GOOD, Connection, Wall, bind, fill

READS = (
    "SELECT * FROM shop.customer WHERE id = 1",
    "SELECT count(*) FROM shop.customer",
    "SELECT * FROM shop.buyer",
    "SELECT * FROM shop.customer AS a LEFT JOIN shop.purchase AS b"
    " ON b.tenant_id = a.tenant_id AND b.customer_id = a.id",
    "SELECT * FROM shop.customer AS a WHERE EXISTS"
    " (SELECT FROM shop.purchase AS b WHERE b.customer_id = a.id)",
    "SELECT name FROM shop.customer UNION ALL SELECT id FROM shop.purchase",
    "WITH RECURSIVE up AS"
    " (SELECT id FROM shop.customer UNION SELECT customer_id FROM shop.purchase)"
    " SELECT * FROM up",
    "SELECT id FROM shop.customer ORDER BY id LIMIT 3",
)
WRITES = (
    "INSERT INTO shop.customer (id, name) VALUES (5, 'x')",
    "INSERT INTO shop.customer AS c (id, name) VALUES (1, 'x')"
    " ON CONFLICT (tenant_id, id) DO UPDATE SET name = excluded.name WHERE c.name <> excluded.name",
    "UPDATE shop.customer SET name = 'x'",
    "WITH w AS (UPDATE shop.customer SET name = 'y' RETURNING id) SELECT * FROM w",
    "MERGE INTO shop.customer AS c USING (SELECT 1 AS i) AS s ON c.id = s.i"
    " WHEN MATCHED THEN UPDATE SET name = 'z'",
)
# What is asked of each row, and may hold no call of the function.
OF_EACH_ROW = re.compile(r"^\s*(?:Filter|Index Cond|Recheck Cond|Join Filter|Hash Cond|.*Filter): ")


def wrong_lines(plan: list[str]) -> list[str]:
    """Lines that call the function for each row; all of them where none is an InitPlan."""
    if not any("InitPlan" in line for line in plan):
        return plan
    return [line for line in plan if OF_EACH_ROW.match(line) and "tenant()" in line]


async def plan_of(seat: Connection, statement: str, *arguments: object) -> list[str]:
    rows = await seat.fetch(f"EXPLAIN (VERBOSE, COSTS OFF) {statement}", *arguments)
    return [row[0] for row in rows]


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_of_an_authors_own_sql(wall: Wall, seat: Connection, mode: str) -> None:
    await wall.apply(GOOD)
    await fill(wall)
    await bind(wall, seat, "acme")
    await seat.execute(f"SET plan_cache_mode = {mode}")
    for off in ("enable_seqscan", "enable_indexscan"):
        await seat.execute(f"SET {off} = off")
        for statement in (*READS, *WRITES):
            plan = await plan_of(seat, statement)
            assert wrong_lines(plan) == [], statement
        await seat.execute(f"RESET {off}")
    await seat.execute("PREPARE one (bigint) AS SELECT * FROM shop.customer WHERE id = $1")
    assert wrong_lines(await plan_of(seat, "EXECUTE one (1)")) == []


async def test_of_the_statements_of_db(wall: Wall, seat: Connection) -> None:
    await wall.apply(GOOD)
    await fill(wall)
    await bind(wall, seat, "acme")
    shapes = Shapes(wall.database)
    customer, visit = await shapes.of("shop", "customer"), await shapes.of("shop", "visit")
    upsert = upsert_statement(customer, ("id", "name"), ["id"])
    assert wrong_lines(await plan_of(seat, upsert, "acme", "{1,2}", ["a", "b"])) == []
    append = append_statement(visit, ("visit_no",))
    assert wrong_lines(await plan_of(seat, append, "acme", "{1,2}")) == []
    await wall.database.close()


async def test_every_policy_of_a_seat_asks_by_a_select(wall: Wall) -> None:
    await wall.apply(GOOD)
    rows = await wall.daemon.fetch(
        "SELECT tablename, policyname, qual, with_check FROM pg_policies"
        " WHERE schemaname = 'shop' AND 'public' = ANY (roles)"
    )
    assert {row["tablename"] for row in rows} == {"customer", "purchase", "visit"}
    for row in rows:
        for text in (row["qual"], row["with_check"]):
            if text is not None and "tenant()" in text:
                assert re.search(r"\( ?SELECT harvestd_api\.tenant\(\)", text), dict(row)


async def test_a_policy_that_asks_each_row_would_be_seen(wall: Wall, seat: Connection) -> None:
    await wall.apply(GOOD)
    await fill(wall)
    await bind(wall, seat, "acme")
    (policy,) = await wall.daemon.fetch(
        "SELECT policyname FROM pg_policies WHERE tablename = 'customer'"
        " AND 'public' = ANY (roles) AND cmd IN ('ALL', 'SELECT')"
    )
    role = wall.roles.source("shop")
    await wall.daemon.execute(f"GRANT {role} TO SESSION_USER")
    await wall.daemon.execute(
        f"ALTER POLICY {policy[0]} ON shop.customer USING (tenant_id = harvestd_api.tenant())"
    )
    assert wrong_lines(await plan_of(seat, "SELECT name FROM shop.customer")) != []
