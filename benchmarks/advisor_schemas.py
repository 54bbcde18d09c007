"""The three schemas of the advisor's benchmark: their data, their workload, the best indexes known for it.

All data is made in SQL from a fixed seed, so every run has the same. `best` are sets of indexes made by hand
for exactly this workload; the benchmark measures each of them and compares with the fastest.

- `feed`: one large table, read by filter, order and limit, and written.
- `tpch`: the tables of TPC-H at scale factor 0.02, and those of its queries that PostgreSQL answers within
  seconds without any index, with constants of the specification's validation runs (Transaction Processing
  Performance Council, TPC Benchmark H 3.0.1, 2.4), and its refresh functions as writes. Values are drawn
  evenly where the specification does so; texts are shorter.
- `shop`: what applications ask besides: a function of a column, parts of texts, arrays and documents, rare
  states of a queue; and a column that is updated too often for an index on it to pay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Query:
    """A statement of a workload: how often it runs, and the sets of parameters it is sent with, in turn."""

    sql: str
    calls: int
    samples: tuple[dict[str, Any], ...] = ({},)
    writes: float | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """A database, what is asked of it, and the best sets of indexes known."""

    name: str
    data: str
    workload: tuple[Query, ...]
    best: dict[str, tuple[str, ...]]
    must_find: tuple[str, ...] = field(default=())


FEED = Schema(
    name="feed",
    data="""
        CREATE TABLE event (
            id int PRIMARY KEY, tenant int NOT NULL, kind text NOT NULL, ts timestamp NOT NULL, payload text
        );
        SELECT setseed(0.42);
        INSERT INTO event
            SELECT i, (random() * 49)::int, 'kind ' || (random() * 19)::int,
                   timestamp '2026-01-01' + random() * interval '300 days', repeat('x', 20 + i % 30)
            FROM generate_series(1, 1000000) i;
    """,
    workload=(
        Query(
            "SELECT id, ts, payload FROM event WHERE tenant = %(tenant)s AND kind = %(kind)s "
            "ORDER BY ts DESC LIMIT 20",
            calls=200,
            samples=tuple({"tenant": 7 * n % 50, "kind": f"kind {n % 20}"} for n in range(1, 5)),
        ),
        Query("SELECT * FROM event WHERE id = %(id)s", calls=200, samples=({"id": 77_777}, {"id": 500_001})),
        Query(
            "INSERT INTO event (id, tenant, kind, ts, payload) "
            "VALUES (%(id)s, 7, 'kind 3', timestamp '2026-06-01 10:00', 'new')",
            calls=500,
            samples=tuple({"id": 2_000_000 + n} for n in range(100)),
            writes=1,
        ),
    ),
    best={
        "by hand": ("CREATE INDEX best_1 ON event (tenant, kind, ts DESC)",),
        "by hand, kind first": ("CREATE INDEX best_1 ON event (kind, tenant, ts DESC)",),
    },
    must_find=("event (tenant, kind, ts DESC)",),
)

_TPCH_DATA = """
    CREATE TABLE region (r_regionkey int PRIMARY KEY, r_name text);
    CREATE TABLE nation (n_nationkey int PRIMARY KEY, n_name text, n_regionkey int);
    CREATE TABLE supplier (s_suppkey int PRIMARY KEY, s_name text, s_nationkey int, s_acctbal numeric(15, 2));
    CREATE TABLE customer (
        c_custkey int PRIMARY KEY, c_name text, c_nationkey int, c_phone text, c_acctbal numeric(15, 2),
        c_mktsegment text
    );
    CREATE TABLE part (
        p_partkey int PRIMARY KEY, p_name text, p_mfgr text, p_brand text, p_type text, p_size int,
        p_container text
    );
    CREATE TABLE partsupp (
        ps_partkey int, ps_suppkey int, ps_availqty int, ps_supplycost numeric(15, 2),
        PRIMARY KEY (ps_partkey, ps_suppkey)
    );
    CREATE TABLE orders (
        o_orderkey int PRIMARY KEY, o_custkey int, o_orderstatus text, o_totalprice numeric(15, 2),
        o_orderdate date, o_orderpriority text, o_shippriority int
    );
    CREATE TABLE lineitem (
        l_orderkey int, l_linenumber int, l_partkey int, l_suppkey int, l_quantity numeric(15, 2),
        l_extendedprice numeric(15, 2), l_discount numeric(15, 2), l_tax numeric(15, 2), l_returnflag text,
        l_linestatus text, l_shipdate date, l_commitdate date, l_receiptdate date, l_shipinstruct text,
        l_shipmode text, PRIMARY KEY (l_orderkey, l_linenumber)
    );
    SELECT setseed(0.42);
    INSERT INTO region SELECT i, (ARRAY['AFRICA','AMERICA','ASIA','EUROPE','MIDDLE EAST'])[i + 1]
        FROM generate_series(0, 4) i;
    INSERT INTO nation SELECT i, (ARRAY['ALGERIA','ARGENTINA','BRAZIL','CANADA','EGYPT','ETHIOPIA','FRANCE',
        'GERMANY','INDIA','INDONESIA','IRAN','IRAQ','JAPAN','JORDAN','KENYA','MOROCCO','MOZAMBIQUE','PERU',
        'CHINA','ROMANIA','SAUDI ARABIA','VIETNAM','RUSSIA','UNITED KINGDOM','UNITED STATES'])[i + 1], i % 5
        FROM generate_series(0, 24) i;
    INSERT INTO supplier SELECT i, 'Supplier#' || i, floor(random() * 25), random() * 10999 - 999
        FROM generate_series(1, 200) i;
    INSERT INTO customer SELECT i, 'Customer#' || i, n, (10 + n)::text || '-' || (100 + i % 900)::text,
        random() * 10999 - 999,
        (ARRAY['AUTOMOBILE','BUILDING','FURNITURE','MACHINERY','HOUSEHOLD'])[1 + floor(random() * 5)]
        FROM (SELECT i, floor(random() * 25)::int AS n FROM generate_series(1, 3000) i) AS made;
    INSERT INTO part SELECT i,
        (ARRAY['forest','green','azure','linen','tomato','peru','navy','rose'])[1 + floor(random() * 8)]
            || ' ' || (ARRAY['almond','blush','coral','dim'])[1 + floor(random() * 4)],
        'Manufacturer#' || 1 + floor(random() * 5),
        'Brand#' || 1 + floor(random() * 5) || '' || 1 + floor(random() * 5),
        (ARRAY['STANDARD','SMALL','MEDIUM','LARGE','ECONOMY','PROMO'])[1 + floor(random() * 6)] || ' '
            || (ARRAY['ANODIZED','BURNISHED','PLATED','POLISHED','BRUSHED'])[1 + floor(random() * 5)] || ' '
            || (ARRAY['TIN','NICKEL','BRASS','STEEL','COPPER'])[1 + floor(random() * 5)],
        1 + floor(random() * 50),
        (ARRAY['SM','LG','MED','JUMBO','WRAP'])[1 + floor(random() * 5)] || ' '
            || (ARRAY['CASE','BOX','BAG','JAR','PKG','PACK','CAN','DRUM'])[1 + floor(random() * 8)]
        FROM generate_series(1, 4000) i;
    INSERT INTO partsupp SELECT p, 1 + (p + s * 50 + p / 200) % 200, floor(random() * 9999), random() * 1000
        FROM generate_series(1, 4000) p, generate_series(0, 3) s;
    INSERT INTO orders SELECT i, 1 + 3 * floor(random() * 1000), 'O', random() * 400000,
        date '1992-01-01' + floor(random() * 2406)::int,
        (ARRAY['1-URGENT','2-HIGH','3-MEDIUM','4-NOT SPECIFIED','5-LOW'])[1 + floor(random() * 5)], 0
        FROM generate_series(1, 30000) i;
    INSERT INTO lineitem SELECT o_orderkey, line, p, 1 + (p + floor(random() * 4)::int * 50 + p / 200) % 200,
        1 + floor(random() * 50), 900 + random() * 100000, floor(random() * 11) / 100,
        floor(random() * 9) / 100,
        CASE WHEN ship + 15 <= date '1995-06-17' THEN (ARRAY['R','A'])[1 + floor(random() * 2)] ELSE 'N' END,
        CASE WHEN ship > date '1995-06-17' THEN 'O' ELSE 'F' END,
        ship, o_orderdate + 30 + floor(random() * 61)::int, ship + 1 + floor(random() * 30)::int,
        (ARRAY['DELIVER IN PERSON','COLLECT COD','NONE','TAKE BACK RETURN'])[1 + floor(random() * 4)],
        (ARRAY['REG AIR','AIR','RAIL','SHIP','TRUCK','MAIL','FOB'])[1 + floor(random() * 7)]
        FROM (
            SELECT o_orderkey, o_orderdate, line, 1 + floor(random() * 4000)::int AS p,
                   o_orderdate + 1 + floor(random() * 121)::int AS ship
            FROM orders, generate_series(1, 1 + o_orderkey % 7) AS line
        ) AS made;
"""

_TPCH = {
    "Q1": """
        SELECT l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice * (1 - l_discount)), count(*)
        FROM lineitem WHERE l_shipdate <= date '1998-12-01' - interval '90' day
        GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus""",
    "Q2": """
        SELECT s_acctbal, s_name, n_name, p_partkey, p_mfgr FROM part, supplier, partsupp, nation, region
        WHERE p_partkey = ps_partkey AND s_suppkey = ps_suppkey AND p_size = 15 AND p_type LIKE '%%BRASS'
          AND s_nationkey = n_nationkey AND n_regionkey = r_regionkey AND r_name = 'EUROPE'
          AND ps_supplycost = (
            SELECT min(ps_supplycost) FROM partsupp, supplier, nation, region
            WHERE p_partkey = ps_partkey AND s_suppkey = ps_suppkey AND s_nationkey = n_nationkey
              AND n_regionkey = r_regionkey AND r_name = 'EUROPE')
        ORDER BY s_acctbal DESC, n_name, s_name, p_partkey LIMIT 100""",
    "Q3": """
        SELECT l_orderkey, sum(l_extendedprice * (1 - l_discount)) AS revenue, o_orderdate, o_shippriority
        FROM customer, orders, lineitem
        WHERE c_mktsegment = 'BUILDING' AND c_custkey = o_custkey AND l_orderkey = o_orderkey
          AND o_orderdate < date '1995-03-15' AND l_shipdate > date '1995-03-15'
        GROUP BY l_orderkey, o_orderdate, o_shippriority ORDER BY revenue DESC, o_orderdate LIMIT 10""",
    "Q4": """
        SELECT o_orderpriority, count(*) FROM orders
        WHERE o_orderdate >= date '1993-07-01' AND o_orderdate < date '1993-07-01' + interval '3' month
          AND EXISTS (SELECT * FROM lineitem WHERE l_orderkey = o_orderkey AND l_commitdate < l_receiptdate)
        GROUP BY o_orderpriority ORDER BY o_orderpriority""",
    "Q6": """
        SELECT sum(l_extendedprice * l_discount) FROM lineitem
        WHERE l_shipdate >= date '1994-01-01' AND l_shipdate < date '1994-01-01' + interval '1' year
          AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24""",
    "Q10": """
        SELECT c_custkey, c_name, sum(l_extendedprice * (1 - l_discount)) AS revenue, c_acctbal, n_name
        FROM customer, orders, lineitem, nation
        WHERE c_custkey = o_custkey AND l_orderkey = o_orderkey AND o_orderdate >= date '1993-10-01'
          AND o_orderdate < date '1993-10-01' + interval '3' month AND l_returnflag = 'R'
          AND c_nationkey = n_nationkey
        GROUP BY c_custkey, c_name, c_acctbal, n_name ORDER BY revenue DESC LIMIT 20""",
    "Q12": """
        SELECT l_shipmode, sum(CASE WHEN o_orderpriority = '1-URGENT' THEN 1 ELSE 0 END) FROM orders, lineitem
        WHERE o_orderkey = l_orderkey AND l_shipmode IN ('MAIL', 'SHIP') AND l_commitdate < l_receiptdate
          AND l_shipdate < l_commitdate AND l_receiptdate >= date '1994-01-01'
          AND l_receiptdate < date '1994-01-01' + interval '1' year
        GROUP BY l_shipmode ORDER BY l_shipmode""",
    "Q14": """
        SELECT 100 * sum(CASE WHEN p_type LIKE 'PROMO%%' THEN l_extendedprice * (1 - l_discount) ELSE 0 END)
               / sum(l_extendedprice * (1 - l_discount))
        FROM lineitem, part
        WHERE l_partkey = p_partkey AND l_shipdate >= date '1995-09-01'
          AND l_shipdate < date '1995-09-01' + interval '1' month""",
    "Q15": """
        SELECT l_suppkey, sum(l_extendedprice * (1 - l_discount)) AS revenue FROM lineitem
        WHERE l_shipdate >= date '1996-01-01' AND l_shipdate < date '1996-01-01' + interval '3' month
        GROUP BY l_suppkey ORDER BY revenue DESC LIMIT 1""",
    "Q17": """
        SELECT sum(l_extendedprice) / 7.0 FROM lineitem, part
        WHERE p_partkey = l_partkey AND p_brand = 'Brand#23' AND p_container = 'MED BOX'
          AND l_quantity < (SELECT 0.2 * avg(l_quantity) FROM lineitem WHERE l_partkey = p_partkey)""",
    "Q19": """
        SELECT sum(l_extendedprice * (1 - l_discount)) FROM lineitem, part
        WHERE p_partkey = l_partkey AND p_brand = 'Brand#12' AND p_size BETWEEN 1 AND 5
          AND l_quantity BETWEEN 1 AND 11 AND l_shipmode IN ('AIR', 'REG AIR')
          AND l_shipinstruct = 'DELIVER IN PERSON'""",
    "Q20": """
        SELECT s_name FROM supplier, nation
        WHERE s_suppkey IN (
            SELECT ps_suppkey FROM partsupp
            WHERE ps_partkey IN (SELECT p_partkey FROM part WHERE p_name LIKE 'forest%%')
              AND ps_availqty > (
                SELECT 0.5 * sum(l_quantity) FROM lineitem
                WHERE l_partkey = ps_partkey AND l_suppkey = ps_suppkey AND l_shipdate >= date '1994-01-01'
                  AND l_shipdate < date '1994-01-01' + interval '1' year))
          AND s_nationkey = n_nationkey AND n_name = 'CANADA' ORDER BY s_name""",
    "Q22": """
        SELECT substring(c_phone from 1 for 2) AS code, count(*), sum(c_acctbal) FROM customer
        WHERE substring(c_phone from 1 for 2) IN ('13', '31', '23', '29', '30', '18', '17')
          AND c_acctbal > (SELECT avg(c_acctbal) FROM customer WHERE c_acctbal > 0.00)
          AND NOT EXISTS (SELECT * FROM orders WHERE o_custkey = c_custkey)
        GROUP BY code ORDER BY code""",
}

_RF1 = (
    Query(
        "INSERT INTO orders VALUES (%(key)s, 5, 'O', 9.5, date '1995-01-01', '1-URGENT', 0)",
        calls=30,
        samples=tuple({"key": 1_000_000 + n} for n in range(30)),
        writes=1,
    ),
    Query(
        "INSERT INTO lineitem VALUES (%(key)s, 1, 7, 8, 9, 900, 0.05, 0.01, 'N', 'O', date '1995-01-10', "
        "date '1995-02-01', date '1995-01-20', 'NONE', 'AIR')",
        calls=120,
        samples=tuple({"key": 1_000_000 + n} for n in range(60)),
        writes=1,
    ),
)

TPCH = Schema(
    name="tpch",
    data=_TPCH_DATA,
    workload=(*(Query(sql, calls=1) for sql in _TPCH.values()), *_RF1),
    best={
        "foreign keys and dates": (
            "CREATE INDEX best_1 ON lineitem (l_partkey, l_suppkey)",
            "CREATE INDEX best_2 ON lineitem (l_shipdate)",
            "CREATE INDEX best_3 ON orders (o_orderdate)",
            "CREATE INDEX best_4 ON orders (o_custkey)",
        ),
        "with the columns that are read": (
            "CREATE INDEX best_1 ON lineitem (l_partkey, l_suppkey, l_shipdate) INCLUDE (l_quantity)",
            (
                "CREATE INDEX best_2 ON lineitem (l_shipdate) "
                "INCLUDE (l_discount, l_quantity, l_extendedprice, l_partkey, l_suppkey)"
            ),
            "CREATE INDEX best_3 ON orders (o_orderdate) INCLUDE (o_orderkey, o_orderpriority, o_custkey)",
            "CREATE INDEX best_4 ON orders (o_custkey)",
            (
                "CREATE INDEX best_5 ON lineitem (l_receiptdate) "
                "INCLUDE (l_shipmode, l_commitdate, l_shipdate, l_orderkey)"
            ),
        ),
        "with what earlier advice taught": (
            "CREATE INDEX best_1 ON lineitem (l_partkey, l_quantity) INCLUDE (l_extendedprice)",
            "CREATE INDEX best_2 ON lineitem (l_partkey, l_suppkey, l_shipdate) INCLUDE (l_quantity)",
            (
                "CREATE INDEX best_3 ON lineitem (l_shipdate) "
                "INCLUDE (l_discount, l_quantity, l_extendedprice, l_suppkey)"
            ),
            "CREATE INDEX best_4 ON lineitem (l_shipmode, l_receiptdate)",
            "CREATE INDEX best_5 ON orders (o_orderdate)",
            "CREATE INDEX best_6 ON orders (o_custkey)",
            "CREATE INDEX best_7 ON part (p_brand, p_container)",
        ),
    },
)

SHOP = Schema(
    name="shop",
    data="""
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
        CREATE TABLE account (id int PRIMARY KEY, email text NOT NULL, name text, city text);
        CREATE TABLE product (
            id int PRIMARY KEY, title text NOT NULL, tags text[] NOT NULL, attributes jsonb NOT NULL,
            price int
        );
        CREATE TABLE job (
            id int PRIMARY KEY, state text NOT NULL, owner int NOT NULL, run_at timestamp NOT NULL,
            attempts int NOT NULL, payload text
        );
        CREATE TABLE visit (
            id int PRIMARY KEY, account_id int NOT NULL, path text NOT NULL, seen_at timestamp NOT NULL,
            counter int NOT NULL
        );
        SELECT setseed(0.42);
        INSERT INTO account SELECT i, 'User.' || i || '@Example.org', 'user ' || i, 'city ' || i % 90
            FROM generate_series(1, 60000) i;
        INSERT INTO product SELECT i, 'item ' || md5(i::text) || ' ' || md5((i * 7)::text),
            ARRAY['tag ' || i % 400, 'tag ' || i % 977],
            jsonb_build_object('colour', i % 200, 'size', i % 17), i % 1000
            FROM generate_series(1, 40000) i;
        INSERT INTO job SELECT i,
            CASE WHEN i % 100 = 0 THEN 'queued' WHEN i % 50 = 1 THEN 'failed' ELSE 'done' END,
            floor(random() * 2000), timestamp '2026-01-01' + random() * interval '90 days', 0, repeat('p', 40)
            FROM generate_series(1, 200000) i;
        INSERT INTO visit SELECT i, floor(random() * 20000), '/page/' || i % 500,
            timestamp '2026-01-01' + random() * interval '90 days', floor(random() * 10000)
            FROM generate_series(1, 200000) i;
    """,
    workload=(
        Query(
            "SELECT id, name FROM account WHERE lower(email) = lower(%(email)s)",
            calls=100,
            samples=({"email": "user.77@EXAMPLE.org"}, {"email": "User.59000@example.org"}),
        ),
        Query(
            "SELECT id, title FROM product WHERE title ILIKE %(part)s",
            calls=20,
            samples=({"part": "%c4ca4238%"}, {"part": "%EFE937780%"}),
        ),
        Query(
            "SELECT id, price FROM product WHERE attributes @> %(wanted)s::jsonb",
            calls=20,
            samples=({"wanted": '{"colour": 7, "size": 3}'}, {"wanted": '{"colour": 150}'}),
        ),
        Query(
            "SELECT count(*) FROM product WHERE tags @> %(tags)s::text[]",
            calls=20,
            samples=({"tags": ["tag 7"]}, {"tags": ["tag 399", "tag 1"]}),
        ),
        Query("SELECT id, payload FROM job WHERE state = 'queued' ORDER BY run_at LIMIT 10", calls=200),
        Query(
            "SELECT count(*) FROM job WHERE owner = %(owner)s AND state = 'failed'",
            calls=50,
            samples=({"owner": 5}, {"owner": 1500}),
        ),
        Query(
            "SELECT path, seen_at FROM visit WHERE account_id = %(account)s ORDER BY seen_at DESC LIMIT 20",
            calls=100,
            samples=({"account": 17}, {"account": 19_000}),
        ),
        Query("SELECT count(*) FROM visit WHERE counter > 9990", calls=1),
        Query(
            "UPDATE visit SET counter = counter + 1 WHERE id = %(id)s",
            calls=4_000,
            samples=tuple({"id": 997 * n % 200_000 + 1} for n in range(200)),
            writes=1,
        ),
        Query(
            "INSERT INTO visit VALUES (%(id)s, 17, '/page/1', timestamp '2026-02-02', 1)",
            calls=1_000,
            samples=tuple({"id": 1_000_000 + n} for n in range(200)),
            writes=1,
        ),
        Query(
            "UPDATE job SET state = 'done', attempts = attempts + 1 WHERE id = %(id)s",
            calls=200,
            samples=tuple({"id": 100 * (n + 1)} for n in range(100)),
            writes=1,
        ),
    ),
    best={
        "by hand": (
            "CREATE INDEX best_1 ON account (lower(email))",
            "CREATE INDEX best_2 ON product USING gin (title gin_trgm_ops)",
            "CREATE INDEX best_3 ON product USING gin (attributes jsonb_path_ops)",
            "CREATE INDEX best_4 ON product USING gin (tags)",
            "CREATE INDEX best_5 ON job (run_at) WHERE state = 'queued'",
            "CREATE INDEX best_6 ON job (owner) WHERE state = 'failed'",
            "CREATE INDEX best_7 ON visit (account_id, seen_at DESC)",
        ),
        "by hand, without partial ones": (
            "CREATE INDEX best_1 ON account (lower(email))",
            "CREATE INDEX best_2 ON product USING gin (title gin_trgm_ops)",
            "CREATE INDEX best_3 ON product USING gin (attributes jsonb_path_ops)",
            "CREATE INDEX best_4 ON product USING gin (tags)",
            "CREATE INDEX best_5 ON job (state, run_at)",
            "CREATE INDEX best_6 ON job (owner, state)",
            "CREATE INDEX best_7 ON visit (account_id, seen_at DESC)",
        ),
    },
)

SCHEMAS = (FEED, TPCH, SHOP)
