select distinct on (dept_id) dept_id, id from emp order by dept_id, id
select distinct on (dept_id) dept_id, name, salary from emp order by dept_id, salary desc
select distinct on (region, qty) region, qty, day, id from sales order by region, qty, day desc, id
select distinct on (city) city, name from dept order by city nulls first, name desc
select count(*) as n from (select distinct on (emp_id) emp_id, id from sales order by emp_id, id) x
select d.name, x.name from dept d join (select distinct on (dept_id) dept_id, name, hired from emp order by dept_id, hired) x on d.id = x.dept_id
select distinct on (dept_id) dept_id, id from emp where active order by dept_id, id desc
select columns('^(id|name)$') from dept
select columns('d$') from emp where id < 5
select columns('^(i|j)$'), i + j as both from nums
select e.id, columns('^name') from emp e where e.id < 3
select columns('alar'), columns('^b') from emp order by id limit 3
select columns('.*') from dept order by columns('^id$')
select * from unnest([3, 1, 2]) as t(a)
select u from unnest([3, 1, 2]) as t(u) where u > 1 order by u
select u, count(*) as n from unnest(['a', 'b', 'a']) as t(u) group by u
select e.name, t.u from emp e join unnest([1, 3, 99]) as t(u) on e.id = t.u
select a, b from unnest([1, 2, 3], ['x', 'y', 'z']) as t(a, b)
select sum(t.a * d.id) as s from dept d cross join unnest([10, 20]) as t(a)
select id from emp where id in (select u from unnest([2, 4, 40]) as t(u))
select d from unnest([date '2024-01-01', date '2024-02-29']) as t(d)
select id, unnest(l) as x from nest where id in (1, 4)
select id, unnest(t) as x from nest where id = 1
select * from generate_series(1, 5)
select * from generate_series(1, 10, 3) as g(n)
select n * 2 as m from range(5) as r(n) where n > 1
select g.n, count(e.id) as c from generate_series(1, 5) as g(n) left join emp e on e.dept_id = g.n group by g.n
select s.id, e.id from sales s asof join emp e match_condition (s.day >= e.hired)
select id, s.a + 1 as x, upper(s.b) as y from nest
select s.* from nest
select id from nest where s.b is not null and s.a < 2
