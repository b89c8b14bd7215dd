select 1
select 1 + 1 as two, 'x' as s
select * from dept
select id, name from emp where id < 4
select emp.id, emp.name from emp where emp.salary > 6500
select e.* from emp e where e.dept_id = 4
select name as n, salary * 2 as double_salary from emp where id <= 3
select distinct dept_id from emp
select distinct region, qty from sales where qty < 2
select count(*) from emp
select * exclude (budget) from dept
select * replace (upper(name) as name) from dept
select * rename (name as title) from dept
select id from emp order by id limit 3
select id from emp order by id desc limit 3 offset 2
select id, salary from emp order by salary desc limit 5
select name, dept_id from emp order by dept_id nulls first, name
select name, dept_id from emp order by dept_id desc nulls last, name desc
select id, bonus from emp order by bonus, id
select id, bonus from emp order by bonus desc, id limit 6
select dept_id, name from emp order by 1, 2
select name from emp order by length(name), name
select name, salary from emp where dept_id = 2 order by salary - 5000, name
select id from emp order by id offset 17
select id from emp fetch first 100 rows only
select dept_id + 1 as d from emp where dept_id is not null order by d, id limit 4
select 'it''s' as q, '' as e, null as n
select 1.5 as a, -2 as b, 1e3 as c, true as t
select 1 as "Quoted Name"
select * from emp where false
select id from emp where true and id > 18
select * from empty
select count(*), sum(a) from empty
from dept select name
select x.i from nums x where x.i > 3
select i, i as i2, i + 0 as i3 from nums where i between 2 and 4
select t.id from (select id from emp where id > 17) as t
select a.b from (select id as b from dept) a where a.b > 2
select * from (values (1, 'x'), (2, 'y'), (3, null)) v(a, b)
values (1, 2), (3, 4)
select a, count(*) from (values (1), (1), (2)) v(a) group by a
select -i as n from nums where i is not null
select +i as n from nums where i = 5
select (1 + 2) * 3 as a, 1 + 2 * 3 as b
select 7 / 2 as a, 7 // 2 as b, 7 % 3 as c
select i // 2 as a, i % 2 as b from nums where i >= 0
select i from nums where i % 2 = 1
select * from dept where name = 'sales' or city = 'Rome'
