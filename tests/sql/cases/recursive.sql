with recursive r as (select 1 as n union all select n + 1 from r where n < 5) select n from r order by n
with recursive r(n) as (select 1 union all select n + 1 from r where n < 40) select sum(n) as s, count(*) as c from r
with recursive r(a, b) as (select 0, 1 union all select b, a + b from r where b < 100) select a from r order by a
with recursive t as (select id, name, boss_id, 0 as level from emp where boss_id is null union all select e.id, e.name, e.boss_id, t.level + 1 from emp e join t on e.boss_id = t.id) select level, count(*) as n from t group by level order by level
with recursive t as (select id, boss_id from emp where id = 17 union all select e.id, e.boss_id from emp e join t on e.id = t.boss_id) select id from t order by id
with recursive t(id, path) as (select id, name from emp where id = 1 union all select e.id, t.path || '/' || e.name from emp e join t on e.boss_id = t.id where e.id < 9) select path from t order by path
with recursive t as (select id, id as head from emp where boss_id = 1 union all select e.id, t.head from emp e join t on e.boss_id = t.id) select head, count(*) as n from t group by head order by head
with recursive days as (select date '2024-01-29' as d union all select d + interval '1 day' from days where d < date '2024-02-02') select d, (select count(*) from sales where sales.day = d) as n from days order by d
with recursive a as (select 1 as n union all select n + 1 from a where n < 3), b as (select n from a union all select n + 10 from b where n < 20) select n from b order by n
with recursive top as (select max(salary) as m from emp), r as (select 1 as n union all select n * 2 from r where n < (select m / 1000 from top)) select n from r order by n
with recursive r as (select 1 as n union all select n + 1 from r where n < 4) select x.n, y.n as m from r x join r y on x.n + 1 = y.n order by x.n
with recursive none as (select id from emp where id < 0 union all select id + 1 from none) select count(*) as n from none
with recursive r as (select 3 as n union all (select n - 1 from r where n > 1 union all select n - 2 from r where n > 2)) select n, count(*) as c from r group by n order by n
with recursive r as (select cast(1 as bigint) as n, cast('x' as varchar) as s union all select n + 1, s || 'y' from r where length(s) < 4) select n, s from r order by n
select d.name, (with recursive r as (select 1 as n union all select n + 1 from r where n < 3) select max(n) from r) as m from dept d order by d.id
with recursive a as (select 1 as n union all select a.n + x.m from a, (with recursive b as (select 1 as m union all select m + 1 from b where m < 3) select m from b) x where a.n < 3) select n, count(*) as c from a group by n order by n
with recursive a as (select 1 as n union all select a.n + x.n from a, (with recursive b as (select 1 as n union all select n * 2 from b where n < 3) select n from b) x where a.n < 4) select n, count(*) as c from a group by n order by n
