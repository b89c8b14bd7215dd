with t as (select id, salary from emp where dept_id = 1) select * from t
with t as (select dept_id, count(*) as n from emp group by dept_id) select d.name, t.n from t join dept d on d.id = t.dept_id
with a as (select 1 as x), b as (select x + 1 as y from a) select * from a, b
with a as (select id from emp), b as (select id from a where id > 15) select count(*) from b
with t(a, b) as (select id, name from dept) select a, b from t where a > 3
with t as (select region, sum(qty) as q from sales group by region) select a.region, b.region from t a join t b on a.q < b.q
with t as (select * from emp) select count(*) from t x join t y on x.boss_id = y.id
with m as (select max(salary) as s from emp) select name from emp, m where salary = m.s
with r as (select region, sum(amount) as total from sales group by region) select region from r where total = (select max(total) from r)
with x as (with y as (select 5 as five) select five + 1 as six from y) select six from x
select id from emp where id < 3 union all select id from dept where id < 3
select id from emp where id < 4 union select id from dept
select dept_id from emp union select id from dept
select dept_id from emp intersect select id from dept
select id from dept except select dept_id from emp
select id from emp where id <= 4 except select boss_id from emp
select 1 as a union all select 2 union all select 3
select 'x' as a union all select name from dept where id = 1
select id, name from dept where id < 3 union all select id, name from emp where id < 3
select id from emp where id < 3 union all select id from emp where id < 3
(select id from emp order by id limit 2) union all (select id from emp order by id desc limit 2)
select id from emp where id < 3 union all select id from dept order by id desc limit 3
select count(*) from (select id from emp union select id from sales)
select city from dept union select null
select region, qty from sales intersect select region, qty from sales where qty > 5
select a from (select 1 as a union select 1 union select 2) t
select salary from emp where id = 1 union all select bonus from emp where id = 1
select i from nums intersect select j from nums
select i from nums except select j from nums
select i from nums union select j from nums
with t as (select id, dept_id from emp), u as (select dept_id, count(*) as n from t group by dept_id) select t.id, u.n from t join u on t.dept_id = u.dept_id where u.n < 3
