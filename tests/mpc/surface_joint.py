"""The catalogue's themes beyond one SELECT of sums: comparisons across owners, order statistics, nested SELECTs."""

from __future__ import annotations

__all__ = ["JOINT"]

BOTH = "GROUP BY b.region, t.tier"
ON = "ON b.phone = t.msisdn"
SAME = "FROM bank.customers c JOIN telco.subscribers u ON c.phone = u.msisdn"

JOINT: dict[str, tuple[str, ...]] = {
    "comparisons across owners": (
        "SELECT COUNT(*) AS n @ WHERE b.age > t.late * 5",
        "SELECT COUNT(*) AS n @ WHERE b.income >= t.minutes AND b.age < 60",
        "SELECT COUNT(*) AS n, SUM(t.bill) AS s @ WHERE b.balance < t.bill OR t.bill IS NULL",
        "SELECT COUNT(*) AS n @ WHERE NOT (b.debt < t.shift) OR b.vip",
        "SELECT COUNT(*) AS n @ WHERE b.segment = t.late",
        "SELECT COUNT(*) AS n @ WHERE b.segment <> t.late AND b.fee <= t.shift",
        "SELECT COUNT(*) AS n @ WHERE b.opened < t.joined",
        "SELECT COUNT(*) AS n @ WHERE b.defaulted = t.prepaid",
        "SELECT COUNT(*) AS n @ WHERE t.late BETWEEN b.segment AND b.segment + 3",
        "SELECT COUNT(*) AS n @ WHERE t.late IN (b.segment, b.segment * 2, 7)",
        "SELECT COUNT(*) AS n @ WHERE b.rate - t.usage > 12.5",
        "SELECT SUM(CASE WHEN b.income > t.minutes THEN t.late ELSE b.segment END) AS s @",
        "SELECT COUNT(*) FILTER (WHERE b.age > t.late * 6) AS n,"
        " SUM(b.age * t.late) FILTER (WHERE b.fee > t.shift) AS s @",
        f"SELECT b.region, t.tier, COUNT(*) AS n @ WHERE b.age > t.late * 4 {BOTH}",
        "SELECT t.tier, SUM(b.debt) AS s @ WHERE b.age - t.late > 30 GROUP BY t.tier HAVING COUNT(*) > 3",
    ),
    "order statistics": (
        "SELECT MIN(b.income) AS a, MAX(b.income) AS z, MIN(t.shift) AS c, MAX(t.bill) AS d @",
        "SELECT MEDIAN(b.income) AS m, MEDIAN(t.late) AS n, MEDIAN(b.balance) AS d @",
        "SELECT PERCENTILE_CONT(0.25) WITHIN GROUP (ORDER BY b.debt) AS p, QUANTILE_CONT(t.late, 0.9) AS q @",
        "SELECT PERCENTILE_DISC(0.75) WITHIN GROUP (ORDER BY t.bill) AS p, QUANTILE_DISC(b.rate, 0.5) AS q @",
        "SELECT MIN(b.region) AS a, MAX(t.tier) AS z, MIN(b.defaulted) AS f, MAX(t.prepaid) AS g @",
        "SELECT MIN(b.age) AS a, MAX(b.age) AS z @ WHERE t.late > 6 AND b.vip",
        "SELECT MAX(b.income) FILTER (WHERE t.prepaid) AS a, MIN(t.minutes) FILTER (WHERE b.age > 50) AS b @",
        "SELECT MIN(b.age) AS none, MEDIAN(t.late) AS also @ WHERE b.age > 99",
        "SELECT MAX(b.age * 2 - 7) AS a, MIN(abs(t.shift)) AS b, MAX(b.income) - MIN(b.income) AS spread @",
        "SELECT t.tier, MIN(b.income) AS a, MEDIAN(b.age) AS m @ GROUP BY t.tier",
        f"SELECT b.region, t.tier, MAX(t.minutes) AS m, COUNT(*) AS n @ {BOTH}",
        "SELECT b.branch, MAX(t.late) AS m @ GROUP BY b.branch ORDER BY m DESC, b.branch",
        "SELECT MIN(b.income) AS a @ WHERE b.income > t.minutes",
    ),
    "COUNT(DISTINCT)": (
        "SELECT COUNT(DISTINCT b.region) AS r, COUNT(DISTINCT t.plan) AS p, COUNT(DISTINCT b.age) AS a @",
        "SELECT COUNT(DISTINCT b.phone) AS k, COUNT(DISTINCT b.income // 100000) AS i,"
        " COUNT(DISTINCT t.prepaid) AS u @",
        "SELECT COUNT(DISTINCT b.opened) FILTER (WHERE b.age > 50) AS d, COUNT(DISTINCT t.bill) AS w @",
        "SELECT COUNT(DISTINCT b.region) AS d @ WHERE t.late > 9",
        "SELECT t.tier, COUNT(DISTINCT b.region) AS d, COUNT(DISTINCT t.late) AS l @ GROUP BY t.tier",
        "SELECT b.region, COUNT(DISTINCT t.city) AS c @ GROUP BY b.region",
    ),
    "regression": (
        "SELECT REGR_SLOPE(b.balance, t.minutes) AS s, REGR_INTERCEPT(b.balance, t.minutes) AS i @",
        "SELECT REGR_R2(t.bill, b.income) AS r, REGR_SLOPE(b.age, b.income) AS s @ WHERE t.prepaid",
        "SELECT t.tier, REGR_SLOPE(t.late, b.age) AS s @ GROUP BY t.tier",
    ),
    "across owners: COALESCE, NULLIF, abs": (
        "SELECT SUM(coalesce(b.income, t.minutes)) AS s, COUNT(coalesce(b.income, t.minutes)) AS n @",
        "SELECT SUM(abs(b.age - t.late * 8)) AS s @",
        "SELECT SUM(coalesce(t.bill, b.balance, 0)) AS s @",
        "SELECT SUM(IF(b.vip, t.late, b.segment)) AS s @ WHERE t.prepaid OR b.vip",
    ),
    "more functions of one owner": (
        "SELECT COUNT(*) AS n @ WHERE b.income / b.age > 5000 AND sqrt(t.late) > 2",
        "SELECT SUM(greatest(b.debt, 0)) AS p, SUM(least(b.age, 40) * t.late) AS q, SUM(sign(b.balance)) AS r @",
        "SELECT COUNT(*) AS n @ WHERE b.opened + 30 > DATE '2020-06-01' AND t.joined - DATE '2020-01-01' > 10",
        "SELECT COUNT(*) AS n @ WHERE b.seen > TIMESTAMP '2020-03-01 00:00:00' - INTERVAL 3 DAY",
        "SELECT COUNT(*) AS n @ WHERE contains(b.branch, 'a') OR starts_with(t.plan, 'p') OR left(t.city, 1) = 'y'",
        "SELECT COUNT(*) AS n @ WHERE replace(t.plan, 'p', 'b') = 'bro' OR reverse(b.region) = 'htuos'",
        "SELECT COUNT(*) AS n @ WHERE regexp_matches(t.plan, '^p.o$') AND strpos(b.region, 'o') = 2",
        "SELECT upper(left(t.plan, 1)) || '.' AS k, COUNT(*) AS n @ GROUP BY 1",
        "SELECT strftime(b.opened, '%Y-%m') AS m, SUM(t.late) AS s @ GROUP BY m",
        "SELECT SUM(TRY_CAST(b.score AS DECIMAL(6,3))) AS s, COUNT(*) FILTER (WHERE TRY_CAST(right(b.phone, 3) AS INTEGER) > 50) AS p @",  # noqa: E501
        "SELECT SUM(date_diff('month', b.opened, DATE '2024-01-01')) AS m @ WHERE t.late < 6",
    ),
    "SELECT among the expressions": (
        "SELECT COUNT(*) AS n @ WHERE b.balance > (SELECT AVG(balance) FROM bank.customers)",
        "SELECT COUNT(*) AS n @ WHERE t.minutes >= (SELECT AVG(minutes) FROM telco.subscribers WHERE tier = 'plus')",
        "SELECT COUNT(*) AS n @ WHERE b.age = (SELECT MAX(age) FROM bank.customers) OR t.late = 0",
        "SELECT SUM((b.age - (SELECT MIN(age) FROM bank.customers)) * t.late) AS s @",
        "SELECT COUNT(*) AS n @ WHERE b.phone IN (SELECT phone FROM bank.customers WHERE vip AND age > 40)",
        f"SELECT COUNT(*) / (SELECT COUNT(*) {SAME}) AS share @ WHERE b.age > 40 AND t.prepaid",
    ),
    "UNION ALL": (
        "SELECT 1 AS part, COUNT(*) AS n @ UNION ALL SELECT 2, COUNT(*) @ WHERE b.age > 50",
        "SELECT t.tier AS k, SUM(b.age) AS s @ GROUP BY 1 UNION ALL SELECT b.region, SUM(t.late) @ GROUP BY 1",
        "SELECT MIN(b.age) AS m @ UNION ALL SELECT MAX(b.age) @ UNION ALL SELECT COUNT(DISTINCT t.plan) @",
    ),
    "WITH and derived tables": (
        f"WITH old AS (SELECT * FROM bank.customers WHERE age > 50) SELECT COUNT(*) AS n, AVG(b.balance) AS a"
        f" FROM old b JOIN telco.subscribers t {ON}",
        f"WITH x AS (SELECT phone, balance + 1 AS y, region FROM bank.customers), z AS (SELECT phone, y * 2"
        f" AS w, region"
        f" FROM x WHERE y > 0) SELECT b.region, SUM(b.w) AS s FROM z b JOIN telco.subscribers t {ON} GROUP BY b.region",
        "SELECT b.old, COUNT(*) AS n, SUM(t.bill) AS s FROM (SELECT phone, age > 60 AS old FROM bank.customers) b"
        f" JOIN (SELECT s.*, late * 2 AS l FROM telco.subscribers s WHERE plan IS NOT NULL) t {ON} WHERE t.l > 4"
        " GROUP BY b.old",
        "SELECT tier, n FROM (SELECT t.tier, COUNT(*) AS n, SUM(b.age) AS s @ GROUP BY t.tier) q"
        " WHERE n > 20 AND q.s > 10",
        "SELECT 100.0 * s / n AS mean FROM (SELECT COUNT(*) AS n, SUM(b.age) AS s @ WHERE t.prepaid)",
        "WITH q AS (SELECT b.region AS r, SUM(t.late) AS s, COUNT(*) AS n @ GROUP BY b.region)"
        " SELECT r, s FROM q WHERE n > 20 OR s > 5",
        "SELECT p, n FROM (SELECT t.tier AS p, COUNT(*) AS n @ GROUP BY p) ORDER BY n DESC, p LIMIT 2",
    ),
}  # fmt: skip
