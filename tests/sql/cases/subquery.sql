select name from emp where salary = (select max(salary) from emp)
select name from emp where salary > (select avg(salary) from emp)
select name, (select count(*) from dept) as n from emp where id < 4
select name, salary - (select min(salary) from emp) as above from emp
select (select max(id) from emp) as m
select (select max(id) from emp) + (select min(id) from dept) as m
select name from emp where dept_id in (select id from dept where city = 'Paris')
select name from emp where dept_id not in (select id from dept where city = 'Paris')
select name from emp where dept_id not in (select dept_id from emp where id < 3)
select name from dept d where exists (select 1 from emp e where e.dept_id = d.id)
select name from dept d where not exists (select 1 from emp e where e.dept_id = d.id)
select name from dept d where exists (select 1 from emp e where e.dept_id = d.id and e.salary > 7000)
select name from emp e where salary > (select avg(salary) from emp x where x.dept_id = e.dept_id)
select name from emp e where salary = (select max(salary) from emp x where x.dept_id = e.dept_id)
select d.name, (select count(*) from emp e where e.dept_id = d.id) as n from dept d
select d.name, (select max(e.salary) from emp e where e.dept_id = d.id) as m from dept d
select d.name, (select sum(e.salary) from emp e where e.dept_id = d.id and e.active) as m from dept d
select e.name from emp e where exists (select 1 from sales s where s.emp_id = e.id and s.qty = 7)
select e.name from emp e where not exists (select 1 from sales s where s.emp_id = e.id)
select e.name from emp e where e.id in (select s.emp_id from sales s where s.amount > 900)
select count(*) from (select * from emp where dept_id = 1) x
select avg(n) from (select dept_id, count(*) as n from emp group by dept_id) t
select * from (select dept_id, max(salary) as m from emp group by dept_id) t where t.m > 7000
select name from emp where (select count(*) from empty) = 0 and id < 3
select name from emp where salary > (select max(c) from empty)
select id from emp where id < (select count(*) from dept)
select e.name from emp e where e.dept_id = (select id from dept where name = 'legal')
select x.name from (select name, salary from (select * from emp where active) a where salary > 6000) x
select name from emp where id in (select boss_id from emp)
select name from emp where id not in (select boss_id from emp where boss_id is not null)
select region from sales group by region having sum(qty) > (select avg(t) from (select sum(qty) as t from sales group by region) x)
select case when (select count(*) from emp) > 10 then 'many' else 'few' end as size
select d.name from dept d where d.budget > (select sum(e.salary) from emp e where e.dept_id = d.id)
select e.name, e.salary / (select sum(salary) from emp) as share from emp e where id <= 3
select s.id from sales s where s.amount > 2 * (select avg(amount) from sales t where t.region = s.region)
select id from emp e where exists (select 1 from emp b where b.boss_id = e.id and b.salary > e.salary)
select name from emp where dept_id in (select dept_id from emp group by dept_id having count(*) > 4)
