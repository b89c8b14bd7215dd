select id, cast(amount as bigint) a, cast(-amount as int) b, amount::smallint c, round(amount)::int d from sales order by id
select id, try_cast(amount as tinyint) a, try_cast(amount as utinyint) b, try_cast(salary as smallint) c from sales join emp using (id) order by id
select id from sales where cast(amount as int) = 237 or amount::int % 100 = 16 order by id
select amount::int as whole, count(*) from sales where amount < 40 group by whole order by whole
select e.id, s.id from emp e join sales s on e.salary::int % 50 = s.amount::int order by e.id, s.id
select avg(amount)::int a, sum(amount)::bigint b, cast(sum(amount) / 7 as int) c, cast(max(salary) as int) d from sales join emp on emp.id = sales.emp_id
select cast(2.5 as int) a, cast(-2.5 as int) b, cast(3.5 as bigint) c, cast(0.999 as int) d, try_cast(1e10 as int) e
select id from sales where amount in (79.19, 158.38, 1) order by id
select id, amount in (79.190, 237.57) a, amount in (79.19, null) b, amount not in (0, 79.19) c from sales order by id
select i, i in (1.5, 2) a, i in (3, 4.0) b, j in (2.0, 10.00) c, x in (0.5, 2.5, 4) d, i + 0.5 in (1.5, 2.25) e from nums order by i, x
select id from emp where salary in (select 5000 + 737 * 1.5) or salary in (select salary from emp where dept_id = 4) order by id
select amount // 7 a, amount // 3.5 b, -amount // 0.3 c, div(amount, 4) d, amount // 1 e from sales order by id
select amount % 7 a, -amount % 7 b, amount % 0.3 c, amount % -12.5 d, mod(amount, 3.5) e from sales order by id
select sum(amount // 10) a, max(amount % 10) b from sales group by region order by region
select id, 100 // nullif(amount, 0) a, 1000 % nullif(amount, 0) b from sales order by id
select amount * qty a, amount * 0.05 b, (1 - 0.05) * amount * (1 + 0.125) c, amount * amount d, -amount * 1.10 e from sales order by id
select region, sum(amount * (1 - 0.05)) a, sum(amount * (1 - 0.05) * (1 + 0.07)) b, avg(amount * 2.5) c, min(amount * -1) d from sales group by region order by region
select sum(e.salary * s.amount) a, max(e.salary * s.amount * s.qty) b, sum(e.salary * d.budget) c from emp e join sales s on s.emp_id = e.id join dept d on d.id = e.dept_id
select id, sum(salary * 1.1) over (partition by dept_id) a, salary * 2 / sum(salary * 2) over () b from emp order by id
select id, salary * null a, null * salary b, salary * 0 c, 0.00 * salary d from emp order by id
select d.id, d.budget * 1.5 a, (select sum(e.salary * 0.1) from emp e where e.dept_id = d.id) b from dept d order by d.id
select 99999999999999999.99 * 99999999999999999.99 a, 0.1 * 0.2 b, 12345678901234567890 * 1.0000000001 c
select id from sales where amount * (1 + 0.2) > 1100 and amount * amount < 960000 order by id
select id, amount * 1.5 as t, amount * 1.5 * qty as u from sales where qty > 5 order by amount * qty desc nulls last, id limit 10
