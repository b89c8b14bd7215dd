selec 1
select
select 1 +
select * form emp
select from where
select 'open
select "open from emp
select /* open from emp
select (1 from emp
select 1) from emp
select zz from emp
select nme from emp
select e.salry from emp e
select emp.city from emp
select id from emps
select x.id from emp e
select id from emp where dept = 1
select id from emp group by dept_id
select foo(id) from emp
select uper(name) from emp
select sum(id, 2) from emp
select id from emp order by
select id from emp limit x
select id, name from emp union select id from dept
select name + 1 from emp
select 1; select 2
drop table emp
insert into emp values (1)
delete from emp
update emp set id = 1
create table t as select 1
with a as (select 1) delete from emp
set x = 1
explain drop table emp
explain analyze select 1
show columns
describe nope
summarize
select $nope
select * from read_parquet('/nowhere/at/all.parquet')
select * from read_parquet('x.parquet', 'y')
select * from read_parquet(name)
select * from emp tablesample (10 percent)
select * from emp for update
select name from emp where name similar to 'A'
select id from emp where id = (select id, name from dept)
select cast(name as nosuchtype) from emp
select id, rank() from emp
select max(id) from emp qualify id > 1
with recursive r as (select 1 as n union select n + 1 from r where n < 5) select * from r
with recursive r as (select n + 1 as n from r) select * from r
select avg(count(*)) from emp
select if(id) from emp
select interval 'foo' from emp
select ? from emp
select @x from emp
with recursive a as (select 1 as n union all select x.m + 1 from (with recursive b as (select n as m from a union all select m + 1 from b where m < 3) select m from b) x where x.m < 5) select * from a
with recursive a as (select 1 as n union all select x.m + 1 from (with recursive b as (select 1 as m union all select b.m + a.n from b, a where m < 3) select m from b) x where x.m < 5) select * from a
select array_dot_product(l, l) from nest
select array_sum(id) from nest
select sum(columns('^(i|j)$')) from nums
select id, u from nest, unnest(l) as t(u)
select * from unnest([1, 2])
select (s).a from nest
select struct(i, j) from nums
select l[1:2] from nest
select id, sum(id) over (order by dept_id range between 1 preceding and current row) from emp
select id, sum(id) over (order by dept_id groups between 1 preceding and current row) from emp
select id, sum(id) over (order by id rows between 1 preceding and 1 following) from emp
select id, avg(id) over (order by id rows between 2 preceding and current row exclude current row) from emp
select distinct on (region) region, day from sales order by region, id
select name from emp were id = 1
select name from emp oder by name
select count(*) from emp grop by dept_id
select * from emp limit 5 offset x
select * from lake.sales.orders
select id from main.emp
select overlay(s placing 'xx' from 2 for 3) from nums
select id from emp a where exists (select 1 from dept d where d.id = a.dept_id and exists (select 1 from sales s where s.emp_id = a.id))
select id from emp e where e.nam = 'x' and exists (select 1 from dept d where d.id = e.dept_id)
select s.c from nest
select columns('(') from emp
select count(*) over (rows between 1 preceding) from emp
select name from emp where id in (1, 2
select id, sum(salary) over (order by id rows between 2 preceding and current row) from emp
select id, avg(id) over (order by id), max(salary) over (order by id rows between 2 preceding and current row) from emp
select hired + interval '1 month' * 2 from emp
select cast(id as unsigned) from emp
select {'a': 1} d
select id, s['a'] from nest
select e.name x, d.name x from emp e join dept d on e.dept_id = d.id
select $tag$open from emp
select rpad('x', 2000000000)
select * from generate_series(1, 1000000000000)
select cast(name as int) from emp
with totals as (select 1 as n) select n from totls
with totals as (select 1 as n) select totls.n from totals
select em.id from emp e join dept d on d.id = em.dept_id
select emp.id from emp e
select cast(name as integr) from emp
select name::timestmp from emp
select sum(id) over byname from emp window by_name as (order by name)
select sum(id) over w from emp
select d.budgt from emp e join dept d on d.id = e.dept_id
