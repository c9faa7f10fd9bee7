"""The catalogue of joint SQL: every construct of docs/reference/sql.md against DuckDB over the two raw tables.

`@` stands for the inner join on the declared keys. Integers, decimals, texts and dates are identical, floats agree to
1e-9 relative. Receivers take turns: the asker, the peer, both. Under ORDER BY the order counts as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mpc.sqlkit import Pair, agree
from tests.mpc.surface import JOIN, World, agree_in_order
from tests.mpc.surface_joint import JOINT

LEFT, RIGHT = JOIN.replace("JOIN", "LEFT JOIN"), JOIN.replace("JOIN", "RIGHT JOIN")
BOTH = "@ GROUP BY b.region, t.tier"

SURFACE: dict[str, tuple[str, ...]] = {
    "joins": (
        "SELECT COUNT(*) AS n @",
        "SELECT COUNT(*) AS n, SUM(late) AS s FROM bank.customers JOIN telco.subscribers"
        " ON customers.phone = subscribers.msisdn",
        "SELECT COUNT(*) AS n FROM telco.subscribers x INNER JOIN bank.customers y ON x.msisdn = y.phone",
        'SELECT SUM("B".age) AS s FROM bank.customers AS "B" JOIN telco.subscribers AS t ON "B".phone = t.msisdn',
        "SELECT SUM(bank.customers.age) AS s FROM bank.customers JOIN telco.subscribers"
        " ON bank.customers.phone = telco.subscribers.msisdn",
        f"SELECT COUNT(*) AS n, COUNT(t.msisdn) AS m, COUNT(t.late) AS l, SUM(t.late) AS s {LEFT}",
        f"SELECT COUNT(*) AS n, SUM(b.age) AS s, COUNT(b.age) AS a, AVG(b.balance) AS m {RIGHT}",
        f"SELECT COUNT(*) AS n, SUM(b.age * t.late) AS s, SUM(b.balance) AS d {LEFT}"
        f" WHERE t.late IS NULL OR b.age > 50",
        f"SELECT t.tier, COUNT(*) AS n, SUM(b.income) AS s {LEFT} GROUP BY t.tier",
        f"SELECT b.region, COUNT(*) AS n, SUM(t.bill) AS s {RIGHT} GROUP BY b.region",
        f"SELECT b.vip, t.city, COUNT(*) AS n {LEFT} GROUP BY b.vip, t.city",
        f"SELECT COUNT(*) AS n {LEFT} WHERE t.late IS NULL",
        f"SELECT COUNT(*) AS n, SUM(coalesce(t.late, 100)) AS s {LEFT.replace('LEFT JOIN', 'LEFT OUTER JOIN')}",
        f"SELECT COUNT(*) FILTER (WHERE t.tier IS NULL) AS lost, CORR(b.age, t.late) AS r {LEFT}",
        f"SELECT SUM(CASE WHEN b.vip THEN t.late ELSE -1 END) AS s {RIGHT}",
    ),
    "where: numbers and arithmetic": (
        "SELECT COUNT(*) AS n @ WHERE b.age > 50",
        "SELECT COUNT(*) AS n @ WHERE b.age >= 18 AND b.age <= 99 AND t.late <> 3",
        "SELECT COUNT(*) AS n @ WHERE b.debt < 0 AND t.bill < 0",
        "SELECT COUNT(*) AS n @ WHERE b.balance = 10000000 OR b.balance = -1000000.00",
        "SELECT COUNT(*) AS n @ WHERE b.balance > 2500000.505",
        "SELECT COUNT(*) AS n @ WHERE b.income BETWEEN 100000 AND 900000",
        "SELECT COUNT(*) AS n @ WHERE b.income NOT BETWEEN 100000 AND 900000",
        "SELECT COUNT(*) AS n @ WHERE b.income + b.debt > 0",
        "SELECT COUNT(*) AS n @ WHERE b.income - b.debt * 2 <= 500000 AND -t.shift > 1",
        "SELECT COUNT(*) AS n @ WHERE b.debt % 7 = 3 OR b.debt % 7 = -3",
        "SELECT COUNT(*) AS n @ WHERE t.minutes // 1000 = 42 OR t.minutes // 1000 > 90",
        "SELECT COUNT(*) AS n @ WHERE abs(b.debt) > 500000 AND abs(t.shift) < 4",
        "SELECT COUNT(*) AS n @ WHERE round(b.balance) > 4000000 AND floor(t.bill) < ceil(t.bill)",
        "SELECT COUNT(*) AS n @ WHERE round(t.usage, 2) <> t.usage",
        "SELECT COUNT(*) AS n @ WHERE b.free > 5000000000 OR b.free * 3 - 1 < -5000000000",
        "SELECT COUNT(*) AS n @ WHERE b.balance > b.income AND t.late > t.shift",
        "SELECT COUNT(*) AS n @ WHERE b.fee * b.rate > 1000.5",
        "SELECT COUNT(*) AS n @ WHERE CAST(b.income AS DECIMAL(9,2)) = b.income AND b.rate < b.fee",
    ),
    "where: texts": (
        "SELECT COUNT(*) AS n @ WHERE b.region = 'north' AND t.plan <> 'pro'",
        "SELECT COUNT(*) AS n @ WHERE b.branch = 'O''Hara' OR b.branch = 'Łódź'",
        "SELECT COUNT(*) AS n @ WHERE b.branch = '' OR t.city = 'leeds'",
        "SELECT COUNT(*) AS n @ WHERE b.region < 'o' AND t.plan >= 'p'",
        "SELECT COUNT(*) AS n @ WHERE b.region IN ('north', 'east') AND t.plan NOT IN ('pro', 'plus')",
        "SELECT COUNT(*) AS n @ WHERE t.plan NOT IN ('pro', NULL)",
        "SELECT COUNT(*) AS n @ WHERE t.plan LIKE 'p%' AND b.branch NOT LIKE '%a%'",
        "SELECT COUNT(*) AS n @ WHERE t.plan LIKE 'p_o' AND b.region LIKE '_o%'",
        "SELECT COUNT(*) AS n @ WHERE b.branch ILIKE 'b' AND t.plan ILIKE 'P%'",
        "SELECT COUNT(*) AS n @ WHERE lower(b.branch) = 'b' AND upper(t.plan) = 'PRO'",
        "SELECT COUNT(*) AS n @ WHERE trim(b.branch) = 'pad' OR length(b.branch) = 0",
        "SELECT COUNT(*) AS n @ WHERE length(b.branch) = 4 AND length(t.city) > 4",
        "SELECT COUNT(*) AS n @ WHERE substr(t.plan, 2, 1) = 'l' OR substring(b.region, 3) = 'rth'",
        "SELECT COUNT(*) AS n @ WHERE coalesce(t.city, 'none') = 'none' AND nullif(b.branch, '') IS NULL",
        "SELECT COUNT(*) AS n @ WHERE 'north' = b.region AND 'p' < t.plan",
    ),
    "where: dates and timestamps": (
        "SELECT COUNT(*) AS n @ WHERE b.opened >= DATE '2020-06-01'",
        "SELECT COUNT(*) AS n @ WHERE b.opened < '2021-01-01' AND t.joined > '2019-06-30'",
        "SELECT COUNT(*) AS n @ WHERE b.opened BETWEEN DATE '2020-02-28' AND DATE '2020-12-31'",
        "SELECT COUNT(*) AS n @ WHERE b.opened IN (DATE '2020-01-01', '2020-02-29', DATE '2021-03-04') OR t.late = 0",
        "SELECT COUNT(*) AS n @ WHERE b.seen > TIMESTAMP '2020-02-28 23:59:59.999999'",
        "SELECT COUNT(*) AS n @ WHERE b.seen <= '2020-02-29 12:00:00' AND t.used > '2020-02-20'",
        "SELECT COUNT(*) AS n @ WHERE year(b.opened) = 2020 AND month(t.joined) > 6",
        "SELECT COUNT(*) AS n @ WHERE extract(quarter FROM b.opened) = 2 OR extract(day FROM t.joined) = 1",
        "SELECT COUNT(*) AS n @ WHERE quarter(b.seen) = 1 AND day(b.seen) > 14",
        "SELECT COUNT(*) AS n @ WHERE extract(hour FROM b.seen) < 12 AND extract(minute FROM t.used) >= 30",
        "SELECT COUNT(*) AS n @ WHERE dayofweek(b.opened) = 0 OR extract(isodow FROM t.joined) = 7",
        "SELECT COUNT(*) AS n @ WHERE extract(week FROM b.opened) = 1 OR extract(doy FROM b.opened) = 366",
        "SELECT COUNT(*) AS n @ WHERE date_trunc('month', b.opened) = DATE '2020-03-01'"
        " OR date_trunc('year', t.joined) = '2020-01-01'",
        "SELECT COUNT(*) AS n @ WHERE CAST(b.seen AS DATE) = DATE '2020-02-29' OR CAST(t.used AS DATE) < '2020-02-25'",
        "SELECT COUNT(*) AS n @ WHERE coalesce(b.opened, DATE '1999-01-01') < DATE '2020-01-05'",
        "SELECT COUNT(*) AS n @ WHERE b.seen >= DATE '2020-03-01' AND DATE '2020-02-29' > t.used",
        "SELECT COUNT(*) AS n @ WHERE t.used BETWEEN DATE '2020-02-20' AND TIMESTAMP '2020-03-01 06:30:00'",
    ),
    "where: booleans, floats and NULL": (
        "SELECT COUNT(*) AS n @ WHERE b.defaulted AND t.prepaid",
        "SELECT COUNT(*) AS n @ WHERE NOT b.defaulted AND b.vip",
        "SELECT COUNT(*) AS n @ WHERE b.defaulted = TRUE OR t.prepaid = FALSE",
        "SELECT COUNT(*) AS n @ WHERE b.defaulted IS TRUE AND t.prepaid IS NOT TRUE",
        "SELECT COUNT(*) AS n @ WHERE b.defaulted IS FALSE OR t.prepaid IS NOT FALSE",
        "SELECT COUNT(*) AS n @ WHERE b.balance IS NULL OR t.bill IS NULL",
        "SELECT COUNT(*) AS n @ WHERE b.balance IS NOT NULL AND t.bill IS NOT NULL",
        "SELECT COUNT(*) AS n @ WHERE (b.income > 500000) IS NULL",
        "SELECT COUNT(*) AS n @ WHERE (b.income > 500000 AND t.minutes > 50000) IS NOT TRUE",
        "SELECT COUNT(*) AS n @ WHERE (b.defaulted OR t.prepaid) IS FALSE",
        "SELECT COUNT(*) AS n @ WHERE (b.income + t.minutes) IS NULL",
        "SELECT COUNT(*) AS n @ WHERE b.score > 0.25 AND b.score <= 0.75",
        "SELECT COUNT(*) AS n, COUNT(b.score) AS c @ WHERE b.score IS NULL OR b.score BETWEEN 0.1 AND 0.2",
        "SELECT COUNT(*) AS n @ WHERE b.income = NULL OR t.late > 6",
        "SELECT COUNT(*) AS n @ WHERE TRUE AND t.late > 6",
        "SELECT COUNT(*) AS n @ WHERE FALSE OR (b.vip AND t.late > 6)",
        "SELECT COUNT(*) AS n @ WHERE CASE WHEN b.defaulted THEN b.age > 40 ELSE b.vip END",
        "SELECT COUNT(*) AS n @ WHERE IF(b.vip, b.age > 30, b.age > 90) AND t.late > 3",
    ),
    "AND, OR, NOT across owners": (
        "SELECT COUNT(*) AS n, SUM(t.bill) AS s @ WHERE b.age > 40 AND t.minutes < 50000",
        "SELECT COUNT(*) AS n, SUM(b.income) AS s @ WHERE b.age > 80 OR t.minutes < 9000",
        "SELECT COUNT(*) AS n @ WHERE NOT (b.defaulted AND t.prepaid)",
        "SELECT COUNT(*) AS n @ WHERE NOT (b.defaulted OR t.prepaid)",
        "SELECT COUNT(*) AS n @ WHERE NOT (NOT b.defaulted OR NOT t.prepaid) OR b.age = 18",
        "SELECT COUNT(*) AS n @ WHERE (b.age > 50 OR t.late > 6) AND (b.vip OR t.prepaid)",
        "SELECT COUNT(*) AS n @ WHERE (b.age > 50 AND t.late > 6) OR (b.age <= 50 AND t.late <= 6)",
        "SELECT COUNT(*) AS n @ WHERE b.age > 50 AND t.late > 6 OR b.income IS NULL AND t.bill IS NULL",
        "SELECT SUM(b.balance) AS s, SUM(t.usage) AS u @ WHERE b.region = 'north' OR t.plan = 'pro' OR t.city IS NULL",
        "SELECT AVG(b.rate) AS a @ WHERE NOT (b.rate > 0 AND t.usage > 0) AND NOT (b.rate < 0 AND t.usage < 0)",
        "SELECT COUNT(*) AS n @ WHERE (b.income > 1 OR t.minutes > 1) IS NULL",
    ),
    "sums and counts": (
        "SELECT SUM(b.income) AS s, SUM(b.debt) AS d, SUM(t.minutes) AS m, SUM(t.shift) AS h @",
        "SELECT SUM(b.balance) AS s, SUM(t.bill) AS d, SUM(b.rate) AS r, SUM(t.usage) AS u, SUM(b.fee) AS f @",
        "SELECT COUNT(b.income) AS i, COUNT(b.branch) AS t, COUNT(b.opened) AS d, COUNT(b.seen) AS z,"
        " COUNT(t.bill) AS f @",
        "SELECT COUNT(b.score) AS f, COUNT(b.defaulted) AS d, COUNT(b.free) AS u, COUNT(1) AS one @",
        "SELECT SUM(b.defaulted) AS d, SUM(t.prepaid) AS p, SUM(b.vip) AS v @",
        "SELECT SUM(CAST(b.defaulted AS INTEGER)) AS d, AVG(CAST(t.prepaid AS INTEGER)) AS p @",
        "SELECT SUM(CAST(b.income AS DECIMAL(10,2))) AS s, SUM(CAST(b.vip AS BIGINT)) AS v @",
        "SELECT SUM(b.income) AS s, SUM(b.income) AS again, COUNT(*) AS n @",
        "SELECT SUM(1) AS ones, SUM(-2) AS minus, COUNT(NULL) AS nothing @",
        "SELECT SUM(b.age) + SUM(t.late) AS s, SUM(b.age) * 2 - COUNT(*) AS d @",
        "SELECT SUM(b.income) / COUNT(*) AS a, 1.5 * SUM(b.income) AS d, -SUM(t.bill) + 2 AS m @",
        "SELECT CAST(SUM(b.income) AS DOUBLE) AS f, SUM(t.bill) / SUM(t.late) AS q @",
        "SELECT COUNT(*) - COUNT(b.income) AS missing, SUM(b.debt) - SUM(b.income) AS d @",
        "SELECT SUM(b.income) AS s, AVG(t.bill) AS a, COUNT(*) AS n @ WHERE b.age > 99",
        "SELECT SUM(b.income * t.late) AS s, CORR(b.age, t.late) AS r @ WHERE t.late > 12",
    ),
    "functions of one owner": (
        "SELECT SUM(abs(b.debt)) AS a, SUM(abs(b.balance)) AS d, SUM(abs(t.shift)) AS h @",
        "SELECT SUM(round(b.balance, 1)) AS r, SUM(round(b.balance)) AS z, SUM(round(t.usage, 2)) AS u @",
        "SELECT SUM(floor(t.bill)) AS f, SUM(ceil(t.bill)) AS c, SUM(floor(b.rate)) AS g, SUM(ceil(b.fee)) AS h @",
        "SELECT SUM(b.age % 7) AS m, SUM(b.age // 7) AS q, SUM(b.debt % 10) AS n @",
        "SELECT SUM(b.debt // 1000) AS q @ WHERE b.debt >= 0",
        "SELECT SUM(coalesce(b.income, 7)) AS c, SUM(coalesce(t.bill, 0.5)) AS d @",
        "SELECT SUM(nullif(t.late, 0)) AS n, COUNT(nullif(t.late, 0)) AS c @",
        "SELECT SUM(length(b.branch)) AS l, COUNT(length(t.plan)) AS p @",
        "SELECT SUM(extract(year FROM b.opened)) AS y, SUM(month(t.joined)) AS m, SUM(day(b.seen)) AS d @",
        "SELECT SUM(CASE WHEN b.region = 'north' THEN b.balance ELSE 0 END) AS s @",
        "SELECT SUM(CASE b.segment WHEN 1 THEN 10 WHEN 2 THEN 20 END) AS s, COUNT(CASE WHEN b.vip THEN 1 END) AS n @",
        "SELECT SUM(IF(b.defaulted, b.income, -1)) AS s, SUM(IF(t.prepaid, 1, 0)) AS p @",
        "SELECT SUM(CASE WHEN b.age < 30 THEN 1 WHEN b.age < 60 THEN CASE WHEN b.vip THEN 5 ELSE 2 END ELSE 3 END) AS s"
        " @",
        "SELECT SUM(-b.debt) AS s, SUM(+t.shift) AS h, SUM((b.age - 50) * (b.age - 20)) AS q @",
        "SELECT SUM(b.fee * b.rate) AS s, SUM(b.rate * 2.5) AS r, SUM(b.fee + b.rate) AS t, SUM(b.fee - 1) AS u @",
    ),
    "arithmetic across owners": (
        "SELECT SUM(b.age * t.late) AS s, AVG(b.age * t.late) AS a @",
        "SELECT SUM(b.balance * t.late) AS s, SUM(b.income * t.minutes) AS i @",
        "SELECT SUM(b.debt * t.shift) AS s, SUM(b.rate * t.usage) AS r, SUM(b.fee * t.usage) AS f @",
        "SELECT SUM(b.balance + t.bill) AS s, SUM(b.balance - t.late) AS d, SUM(t.minutes - b.income) AS m @",
        "SELECT SUM(b.age * (t.minutes + 1)) AS s, SUM((b.age - 20) * (t.late * 2 - 3)) AS u @",
        "SELECT SUM((b.age + t.late) * 3) AS s, SUM(-(b.debt + t.shift)) AS m @",
        "SELECT SUM((b.age + t.late) * (b.age - t.late)) AS s @",
        "SELECT SUM(b.age * t.late * b.segment) AS s, SUM(t.late * b.age * t.shift) AS u @",
        "SELECT COUNT(b.income + t.minutes) AS n, COUNT(b.balance * t.bill) AS m @",
        "SELECT SUM(CASE WHEN t.plan = 'pro' THEN b.balance WHEN t.late > 6 THEN t.bill END) AS s @",
        "SELECT SUM(CASE WHEN b.vip THEN t.minutes ELSE b.income END) AS s,"
        " COUNT(CASE WHEN b.vip THEN t.bill END) AS n @",
        "SELECT SUM(CASE WHEN b.age > 50 AND t.late > 6 THEN 1 ELSE 0 END) AS s @",
        "SELECT SUM(CASE WHEN b.age > 50 OR t.prepaid THEN b.segment * t.late ELSE t.shift END) AS s @",
        "SELECT SUM(abs(b.debt) * abs(t.shift)) AS s, SUM(round(b.balance) * t.late) AS r @",
        "SELECT SUM(CAST(b.vip AS INTEGER) * t.late) AS s @",
        "SELECT AVG(b.balance - t.bill) AS a, AVG(b.income + t.minutes) AS m @ WHERE b.vip OR t.prepaid",
        "SELECT SUM(b.fee * t.shift) AS s, SUM(b.fee * t.shift) FILTER (WHERE b.fee > 0 AND t.shift < 0) AS f @",
    ),
    "averages, spread and correlation": (
        "SELECT AVG(b.income) AS a, AVG(b.balance) AS b, AVG(t.bill) AS c, AVG(t.shift) AS d, AVG(b.rate) AS e @",
        "SELECT VAR_SAMP(b.balance) AS v, VAR_POP(b.balance) AS p, VARIANCE(t.bill) AS w @",
        "SELECT STDDEV(b.income) AS s, STDDEV_SAMP(b.debt) AS d, STDDEV_POP(t.late) AS p @",
        "SELECT VAR_POP(t.late) AS v, VAR_SAMP(t.shift) AS s, STDDEV_POP(t.usage) AS u @ WHERE b.age > 40"
        " AND t.late > 4",
        "SELECT COVAR_SAMP(b.balance, t.minutes) AS c, COVAR_POP(t.bill, b.income) AS p @",
        "SELECT COVAR_POP(b.age, t.late) AS c, COVAR_SAMP(b.debt, b.income) AS o, COVAR_POP(t.late, t.shift) AS h @",
        "SELECT CORR(b.balance, t.minutes) AS r, CORR(b.balance, b.income) AS q, CORR(t.bill, t.usage) AS p @",
        "SELECT CORR(b.age, b.age) AS o, CORR(t.late, b.age) AS r @",
        "SELECT CORR(b.age, t.late) AS r, VAR_POP(t.late) AS v @ WHERE t.late = 3",
        "SELECT CORR(b.age + t.late, t.minutes) AS r, VAR_POP(b.age * t.late) AS v @",
        "SELECT VAR_SAMP(b.age) AS v, COVAR_SAMP(b.age, t.late) AS c @ WHERE b.age = 18 AND t.late = 12",
        "SELECT AVG(CASE WHEN b.defaulted THEN 1 ELSE 0 END) AS share,"
        " STDDEV_POP(CASE WHEN t.prepaid THEN 1 ELSE 0 END) AS d @",
        "SELECT AVG(b.balance) - AVG(t.bill) AS d, AVG(b.income) / AVG(t.minutes) AS q, AVG(t.late) * 2 AS m @",
        "SELECT b.region, CORR(b.balance, t.bill) AS r, COVAR_POP(b.rate, t.usage) AS c @ GROUP BY b.region",
        "SELECT t.tier, STDDEV_SAMP(b.rate) AS s, VAR_POP(t.usage) AS v @ GROUP BY t.tier",
    ),
    "FILTER on every aggregate": (
        "SELECT COUNT(*) FILTER (WHERE b.age > 40) AS a, COUNT(*) FILTER (WHERE t.late > 6) AS b @",
        "SELECT COUNT(b.income) FILTER (WHERE b.vip AND t.prepaid) AS c, COUNT(t.city)"
        " FILTER (WHERE b.vip OR t.prepaid) AS d @",
        "SELECT SUM(t.bill) FILTER (WHERE b.defaulted) AS s, SUM(b.balance) FILTER (WHERE t.plan = 'pro') AS d @",
        "SELECT AVG(b.income) FILTER (WHERE t.late BETWEEN 3 AND 9) AS a, AVG(t.usage) FILTER (WHERE NOT b.vip) AS u @",
        "SELECT VAR_SAMP(b.age) FILTER (WHERE t.late > 6) AS v, VAR_POP(t.late) FILTER (WHERE b.age > 60) AS p @",
        "SELECT STDDEV_SAMP(b.rate) FILTER (WHERE t.prepaid) AS s, STDDEV_POP(t.shift) FILTER (WHERE b.vip) AS p @",
        "SELECT COVAR_SAMP(b.age, t.late) FILTER (WHERE b.vip) AS c, COVAR_POP(b.age, t.late)"
        " FILTER (WHERE t.late > 2) AS d @",
        "SELECT CORR(b.age, t.late) FILTER (WHERE b.region IN ('north', 'south')) AS r @",
        "SELECT SUM(b.age * t.late) FILTER (WHERE b.age > 50 OR t.late > 6) AS s, COUNT(*) AS n @"
        " WHERE t.minutes > 20000",
        "SELECT b.region, COUNT(*) FILTER (WHERE t.prepaid) AS p, SUM(t.late) FILTER (WHERE b.vip) AS s"
        " @ GROUP BY b.region",
        "SELECT t.tier, AVG(b.balance) FILTER (WHERE b.balance > 0 AND t.bill > 0) AS a @ GROUP BY t.tier",
        "SELECT SUM(t.late) FILTER (WHERE b.age > 99) AS none, COUNT(*) FILTER (WHERE b.age > 99) AS zero @",
    ),
    "GROUP BY of one owner": (
        "SELECT b.region, COUNT(*) AS n, SUM(t.minutes) AS s @ GROUP BY b.region",
        "SELECT t.tier, COUNT(*) AS n, AVG(b.balance) AS m @ WHERE b.region = 'north' GROUP BY t.tier",
        "SELECT b.branch, COUNT(*) AS n, SUM(t.bill) AS s @ GROUP BY b.branch",
        "SELECT t.plan, COUNT(*) AS n @ GROUP BY t.plan",
        "SELECT t.plan AS p, t.city AS c, SUM(b.income) AS s @ GROUP BY p, c",
        "SELECT b.defaulted, COUNT(*) AS n, SUM(CAST(t.prepaid AS INTEGER)) AS s @ GROUP BY b.defaulted",
        "SELECT b.segment, COUNT(*) AS n, SUM(b.age * t.late) AS s @ GROUP BY b.segment",
        "SELECT t.shift, COUNT(*) AS n, SUM(b.debt) AS d @ GROUP BY 1",
        "SELECT b.age // 10 AS decade, COUNT(*) AS n, AVG(t.usage) AS u @ GROUP BY decade",
        "SELECT b.debt // 250000 AS q, COUNT(*) AS n @ WHERE b.debt > 0 GROUP BY q",
        "SELECT CASE WHEN b.age > 50 THEN 'old' ELSE 'young' END AS g, AVG(t.bill) AS a @ GROUP BY g",
        "SELECT CASE WHEN t.late = 0 THEN 'never' WHEN t.late < 6 THEN 'some' END AS g, COUNT(*) AS n @ GROUP BY 1",
        "SELECT extract(year FROM b.opened) AS y, quarter(b.opened) AS q, COUNT(*) AS n @ GROUP BY y, q",
        "SELECT date_trunc('month', b.seen) AS m, SUM(t.bill) AS s @ GROUP BY 1",
        "SELECT t.joined AS d, COUNT(*) AS n @ WHERE t.joined BETWEEN '2020-01-01' AND '2020-02-15' GROUP BY t.joined",
        "SELECT b.seen, COUNT(*) AS n @ WHERE b.seen > '2020-06-01' GROUP BY b.seen",
        "SELECT upper(t.plan) AS p, length(t.plan) AS l, COUNT(*) AS n @ GROUP BY 1, 2",
        "SELECT b.income IS NULL AS lost, COUNT(*) AS n @ GROUP BY 1",
        "SELECT b.age > 60 AS old, SUM(t.late) AS s @ GROUP BY b.age > 60",
        "SELECT COUNT(*) AS n, SUM(t.late) AS s @ GROUP BY b.region",
        "SELECT coalesce(t.city, '-') AS c, COUNT(*) AS n @ GROUP BY 1",
        "SELECT b.region, COUNT(*) AS n @ WHERE b.age > 99 GROUP BY b.region",
    ),
    "GROUP BY of both owners": (
        f"SELECT b.region, t.tier, COUNT(*) AS n, SUM(b.balance) AS s {BOTH}",
        f"SELECT t.tier, b.region, AVG(t.bill) AS a, SUM(b.age * t.late) AS p {BOTH}",
        "SELECT b.branch, t.plan, COUNT(*) AS n @ GROUP BY b.branch, t.plan",
        "SELECT b.region, t.plan, SUM(t.usage) AS u @ GROUP BY 1, 2",
        "SELECT b.branch, t.tier, SUM(b.income) AS s @ WHERE t.prepaid GROUP BY b.branch, t.tier",
        "SELECT b.vip, t.prepaid, b.segment, COUNT(*) AS n @ GROUP BY b.vip, t.prepaid, b.segment",
        "SELECT b.age // 25 AS a, t.late // 5 AS l, SUM(b.debt) AS d, COUNT(t.minutes) AS m @ GROUP BY a, l",
        "SELECT t.late % 2 AS odd, b.defaulted AS d, CORR(b.age, t.minutes) AS r @ GROUP BY odd, d",
        "SELECT year(b.opened) AS y, year(t.joined) AS z, COUNT(*) AS n @ GROUP BY y, z",
        "SELECT t.city, b.region, COUNT(*) FILTER (WHERE b.vip) AS v, SUM(CASE WHEN t.prepaid THEN b.age END) AS s"
        " @ GROUP BY t.city, b.region",
        "SELECT b.region, t.tier, COUNT(*) AS n @ WHERE b.age > 90 AND t.late > 10 GROUP BY b.region, t.tier",
    ),
    "HAVING": (
        f"SELECT b.region, t.tier, COUNT(*) AS n {BOTH} HAVING COUNT(*) > 8",
        f"SELECT b.region, t.tier, COUNT(*) AS n {BOTH} HAVING n BETWEEN 3 AND 10",
        f"SELECT b.region, t.tier {BOTH} HAVING SUM(b.balance) > 40000000.50 AND SUM(t.late) < 90",
        f"SELECT b.region, t.tier {BOTH} HAVING AVG(t.bill) > -12.25 OR COUNT(t.bill) = 0",
        f"SELECT b.region, t.tier {BOTH} HAVING NOT (SUM(t.shift) >= 0)",
        f"SELECT b.region, t.tier {BOTH} HAVING SUM(t.late) * 10 > SUM(b.age)",
        f"SELECT b.region, t.tier {BOTH} HAVING SUM(t.bill) FILTER (WHERE b.age > 80) IS NULL",
        f"SELECT b.region, t.tier {BOTH} HAVING COUNT(*) IN (3, 5, 7, 9, 11)",
        "SELECT t.plan, COUNT(*) AS n @ GROUP BY t.plan HAVING COUNT(t.minutes) <> COUNT(*)"
        " AND SUM(b.age * t.late) > 100",
        "SELECT b.branch, SUM(t.usage) AS u @ GROUP BY b.branch HAVING SUM(t.usage) / COUNT(*) > 1.5",
    ),
    "ORDER BY and LIMIT": (
        "SELECT t.tier, COUNT(*) AS n @ GROUP BY t.tier ORDER BY n DESC, t.tier",
        "SELECT b.region, COUNT(*) AS n @ GROUP BY b.region ORDER BY b.region DESC NULLS FIRST",
        "SELECT b.segment, SUM(t.bill) AS s @ GROUP BY b.segment ORDER BY 2, 1",
        "SELECT t.plan, AVG(b.balance) AS a @ GROUP BY t.plan ORDER BY a DESC NULLS LAST, t.plan",
        f"SELECT b.region, t.tier {BOTH} ORDER BY SUM(t.late) - COUNT(*) * 6, b.region, t.tier",
        f"SELECT b.region, t.tier, COUNT(*) AS n {BOTH} ORDER BY n DESC, 1, 2 LIMIT 4",
        f"SELECT b.region, t.tier, SUM(b.balance) AS s {BOTH} ORDER BY s NULLS FIRST, 1, 2 LIMIT 5 OFFSET 2",
        "SELECT b.segment, COUNT(*) AS n @ GROUP BY b.segment ORDER BY b.segment DESC LIMIT 3",
        "SELECT t.plan, SUM(b.debt) AS d @ GROUP BY t.plan ORDER BY d, t.plan LIMIT 2",
        f"SELECT b.region, t.tier, COUNT(*) AS n {BOTH} HAVING COUNT(*) > 3 ORDER BY SUM(t.late) DESC, 1, 2 LIMIT 3",
        "SELECT COUNT(*) AS n @ ORDER BY n LIMIT 1",
        "SELECT COUNT(*) AS n @ LIMIT 0",
        "SELECT year(b.opened) AS y, COUNT(*) AS n @ GROUP BY y ORDER BY y DESC NULLS FIRST",
        "SELECT b.opened, COUNT(*) AS n @ WHERE b.opened < '2020-04-01' GROUP BY b.opened ORDER BY b.opened",
    ),
    "NULL in every place": (
        "SELECT SUM(b.income + b.debt) AS s, COUNT(b.income + b.debt) AS n @",
        "SELECT SUM(b.income * t.minutes) AS s, COUNT(b.income * t.minutes) AS n @",
        "SELECT SUM(CASE WHEN b.defaulted THEN 1 END) AS a, SUM(CASE WHEN NOT b.defaulted THEN 1 END) AS b @",
        "SELECT SUM(CASE WHEN b.income > 500000 THEN 1 ELSE 2 END) AS s @",
        "SELECT COUNT(*) AS n @ WHERE b.region NOT IN ('north') OR t.plan IN ('pro', NULL)",
        "SELECT SUM(coalesce(b.income, b.debt, 0)) AS s, SUM(coalesce(t.bill, t.late)) AS u @",
        "SELECT AVG(CASE WHEN t.prepaid THEN NULL ELSE b.age END) AS a @",
        "SELECT COUNT(CASE WHEN b.defaulted IS NULL THEN t.bill END) AS n @",
        "SELECT COVAR_POP(b.income, t.minutes) AS c, COUNT(*) AS n @ WHERE b.income IS NULL OR t.minutes IS NULL",
        "SELECT SUM(NULLIF(b.segment, 3)) AS s, SUM(NULLIF(b.segment, 3) * t.late) AS p @",
        "SELECT b.region IS NULL AS lost, t.prepaid IS NULL AS q, COUNT(*) AS n @ GROUP BY 1, 2",
    ),
}  # fmt: skip
RECEIVERS = (("bank",), ("telco",), ("bank", "telco"))
CASES = [
    (f"{theme}-{number}", sql.replace("@", JOIN))
    for theme, some in (SURFACE | JOINT).items()
    for number, sql in enumerate(some)
]
ON_THE_LATTICE = 19  # every so many statements run on the real engine, too


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("surface"))


@pytest.fixture(scope="module")
def ideal() -> Iterator[Pair]:
    yield Pair.ideal()


@pytest.fixture(scope="module")
def real() -> Iterator[Pair]:
    yield Pair.real()


def check(world: World, pair: Pair, sql: str, place: int) -> None:
    found = world.joint(sql, pair, RECEIVERS[place % 3])
    (agree_in_order if "ORDER BY" in sql else agree)(found, world.plain(sql))


@pytest.mark.parametrize("place", range(len(CASES)), ids=[name for name, _ in CASES])
def test_statement_equals_duckdb(place: int, world: World, ideal: Pair) -> None:
    check(world, ideal, CASES[place][1], place)


@pytest.mark.parametrize("place", range(0, len(CASES), ON_THE_LATTICE), ids=[n for n, _ in CASES[::ON_THE_LATTICE]])
def test_statement_equals_duckdb_on_the_lattice_engine(place: int, world: World, real: Pair) -> None:
    check(world, real, CASES[place][1], place)


def test_the_catalogue_is_as_large_as_it_says() -> None:
    assert len({sql for _, sql in CASES}) == len(CASES) >= 200
    assert len(CASES[::ON_THE_LATTICE]) >= 12


def test_the_tables_hold_what_the_statements_are_about(world: World) -> None:
    """NULLs and both ends of the ranges are there, rows without a match too: a statement over them says something."""
    for table in world.read:
        assert table.num_rows > 100
    assert world.plain(f"SELECT COUNT(*) AS n {JOIN}") == [{"n": 130}]
    (ends,) = world.plain("SELECT MIN(age) AS a, MAX(age) AS b, COUNT(*) - COUNT(income) AS c FROM bank.customers")
    assert (ends["a"], ends["b"]) == (18, 99)
    assert ends["c"] > 5
