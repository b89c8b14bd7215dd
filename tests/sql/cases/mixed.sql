select id, first_value(name) over w f, last_value(name) over w l, nth_value(name, 2) over w n from emp window w as (partition by dept_id order by salary desc, id) order by id
select id, lag(salary, 2, 0) over (partition by dept_id order by hired, id) as l, lead(name, 1, 'none') over (partition by dept_id order by hired, id) as n from emp order by id
select dept_id, name, salary from emp qualify row_number() over (partition by dept_id order by salary desc, id) <= 2 order by dept_id nulls last, salary desc
select region, day, sum(amount) as total from sales group by region, day qualify rank() over (partition by region order by sum(amount) desc nulls last, day) = 1 order by region
select region, sum(amount) t, sum(sum(amount)) over () g, sum(amount) / sum(sum(amount)) over () as share from sales group by region order by region
select region, extract(month from day) as m, sum(amount) as t, grouping(region) as g, grouping(m) as h from sales group by grouping sets ((region, m), (region), (m), ()) order by region nulls last, m nulls last, g, h
select d.city, e.active, count(*) n, avg(salary) from emp e left join dept d on e.dept_id = d.id group by cube (d.city, e.active) order by 1 nulls last, 2 nulls last, 3
select d.name, e.name from emp e full join dept d on e.dept_id = d.id and e.salary > 6000 order by 1 nulls last, 2 nulls last
select d.name, e.name from emp e full outer join dept d on e.dept_id = d.id and d.budget > e.salary * 5 order by 1 nulls last, 2 nulls last
select e.name, (select max(s.amount) from sales s where s.emp_id = e.id) as m from emp e order by e.id
select e.name, (select count(*) from sales s where s.emp_id = e.id and s.qty > 3) as c from emp e order by e.id
select name from emp e where salary > (select avg(salary) from emp x where x.dept_id = e.dept_id) order by name
select name from emp e where not exists (select 1 from emp x where x.boss_id = e.id) order by name
select name from emp where dept_id not in (select id from dept where city = 'Paris') order by name
select name from emp where dept_id in (select dept_id from emp group by dept_id having count(*) > 3) order by name
select dept_id from emp except all select id from dept order by 1 nulls last
select * from (values (1, 'a'), (2, null), (null, 'c')) as t(x, y) order by x nulls first
with recursive t as (select 1 as n, 1 as f union all select n + 1, f * (n + 1) from t where n < 10) select * from t order by n
with recursive chain as (select id, name, 0 as depth from emp where boss_id is null union all select e.id, e.name, c.depth + 1 from emp e join chain c on e.boss_id = c.id) select depth, count(*) n, min(name) from chain group by depth order by depth
select salary * 1.1 as a, salary / 3 as b, salary * salary as c, cast(salary as decimal(12,4)) / 7 as d from emp order by id
select sum(salary * 0.15), avg(salary), sum(salary) / count(*), min(salary) * 2, max(salary) - min(salary) from emp
select amount, round(amount, 1), floor(amount), ceil(amount), abs(-amount), sign(amount) from sales order by id limit 9
select case region when 'north' then 'n' when 'south' then 's' else region end as r, sum(case when qty > 3 then amount else 0 end) as big from sales group by r order by r
select distinct on (region) region, day, amount from sales order by region, day desc, amount
select region, array_agg(qty order by id) from sales group by region order by region
select a.id, b.id from emp a join emp b on a.boss_id = b.id and a.salary > b.salary order by a.id
select a.id, b.id, c.id from emp a left join emp b on a.boss_id = b.id left join emp c on b.boss_id = c.id order by a.id
select * from emp a join emp b on a.id = b.boss_id join dept c on c.id = b.dept_id order by a.id, b.id limit 3
select count(*) from emp a full join emp b on a.boss_id = b.id and a.hired < b.hired where a.id is null or b.id is null
select a.i, b.j from nums a right join nums b on a.i = b.j and a.x > 0 order by 1 nulls last, 2 nulls last
select a.i, b.j from nums a left join nums b on a.i < b.j and a.x > b.x order by 1 nulls last, 2 nulls last
select count(*) from emp cross join dept cross join nums where emp.dept_id = dept.id and nums.i = emp.id
select d.id, e.id from dept d left join emp e on d.id = e.dept_id and e.active where e.id is null or e.salary > 6500 order by 1, 2 nulls first
select x.dept_id, x.n, y.t from (select dept_id, count(*) n from emp group by dept_id) x join (select dept_id, sum(salary) t from emp group by dept_id) y on x.dept_id = y.dept_id or (x.dept_id is null and y.dept_id is null) order by 1 nulls last
select d.name, (select string_agg(e.name, ',' order by e.name) from emp e where e.dept_id = d.id) as names from dept d order by d.id
select d.name, (select e.name from emp e where e.dept_id = d.id order by e.salary desc limit 1) as top from dept d order by d.id
select e.name, e.salary - (select avg(x.salary) from emp x where x.dept_id = e.dept_id and x.id <> e.id) as diff from emp e order by e.id
with a(x, y) as (select id, name from dept), b as (select x + 1 as x, y from a) select a.y, b.y from a join b on a.x = b.x order by a.x
select dept_id, active, count(*) from emp group by rollup (dept_id, active) order by 1 nulls last, 2 nulls last, 3
select region, qty, count(*), grouping_id(region, qty) g from sales group by rollup(region, qty) having count(*) > 4 order by 1 nulls last, 2 nulls last, g
select region, sum(amount) s, rank() over (order by sum(amount) desc) r from sales group by rollup(region) order by r
select dept_id, sum(salary) over (partition by dept_id) / sum(salary) over () as share, ntile(3) over (order by salary desc, id) as t, percent_rank() over (partition by dept_id order by salary) p, cume_dist() over (partition by dept_id order by salary) c from emp order by id
select id, first_value(bonus) over (partition by dept_id order by id) f, last_value(bonus) over (partition by dept_id order by id rows between unbounded preceding and unbounded following) l from emp order by id
select id, sum(qty) over (partition by region order by day) a, sum(qty) over (partition by region order by day rows between unbounded preceding and current row) b from sales order by id limit 30
select id, count(*) over (partition by region) a, count(amount) over (partition by region order by id) b, avg(qty) over (order by id rows between 6 preceding and current row) c from sales order by id limit 40
select region, day, qty - lag(qty) over (partition by region order by day, id) as delta from sales order by region, day, id
select * from (select region, id, row_number() over (partition by region order by amount desc nulls last, id) as r from sales) where r <= 2 order by region, r
select i, max(x) over (order by x nulls first) m, min(x) over (order by x desc nulls last) n from nums order by 1, 2, 3
select dept_id, count(*) as n, sum(count(*)) over (order by dept_id nulls last) as running from emp group by dept_id order by dept_id nulls last
select i::decimal(20,4) * x::decimal(20,4) a, i::decimal(10,2) / 7 b, x::decimal(10,3) + i c from nums
select sum(amount) / 7, avg(amount) * 3, sum(amount * qty), sum(amount) filter (where amount > 500) / count(*) from sales
select amount * 1.00000001, amount / 0.3, amount % 7, -amount, amount + 1, 1 - amount from sales order by id limit 7
select note from sales where note like '50\%%' or note like 'a\_b' order by 1
select distinct note from sales where note like '_n%' or note like '' or note not like '%a%' order by 1
select regexp_replace(s, '([a-z])([a-z])', '\2\1', 'g') a, regexp_replace(s, 'A', 'x', 'i') b from nums
select count(*) from (select * from emp union all by name select * from emp)
select id from emp union select id from dept except select i from nums order by id
select id from emp intersect select id from dept union all select 100 order by id
select trunc(amount) a, trunc(amount, 1) b, round(amount) c, round(amount, 1) d, floor(amount) e, ceil(amount) f from sales order by id
select trunc(-salary), round(-salary, 1), floor(-salary), ceil(-salary), sqrt(salary), ln(salary), power(salary, 2), exp(salary / 1000), sign(-salary) from emp order by id
select i + 0.5, i * 0.5, i / 0.5, i - 0.25, j * 1.1, x * 1.1, x + 1 from nums
select greatest(amount, 500), least(amount, 500.5), coalesce(amount, 0), ifnull(amount, 1.5), nullif(amount, 0) from sales order by id
select case when amount > 500 then amount else 0 end a, case when qty > 3 then 1.5 else 2 end b, case when qty > 3 then amount else qty end c from sales order by id
select sum(case when qty > 3 then amount * (1 - 0.1) else 0 end), avg(amount * 1.5), sum(amount) * 0.0001, sum(amount * (1 - 0.05) * (1 + 0.07)) from sales
select salary::varchar, amount::varchar, x::varchar, i::varchar, active::varchar, hired::varchar from emp, sales, nums where emp.id = sales.id and nums.i = emp.id order by emp.id
select region, qty, sum(amount) from sales group by cube(region, qty) order by 1 nulls first, 2 nulls first
select region, date_trunc('month', day) m, sum(qty) q, sum(sum(qty)) over (partition by region order by date_trunc('month', day) rows between 1 preceding and current row) w from sales group by 1, 2 order by 1, 2
select id, avg(x) over (order by i rows between 1 preceding and current row) from (select i as id, * from nums) order by id, x
select i, x, sum(x) over (order by i nulls first, x rows between 2 preceding and current row) a, min(x) over (order by i nulls first, x rows between 2 preceding and current row) b, count(*) over (order by i nulls first, x rows between 2 preceding and current row) c from nums order by i nulls first, x
select id, count(*) over (partition by active, dept_id) c, row_number() over (partition by active, dept_id order by id desc) r from emp order by id
select id, sum(bonus) over (partition by dept_id order by dept_id) from emp order by id
select dense_rank() over (order by region desc, qty) r, region, qty from sales order by id
select lag(qty) over (order by id) - qty, lead(qty, 3) over (order by day desc, id) from sales order by id
select id, name from emp e1 where (select count(*) from emp e2 where e2.salary > e1.salary) < 3 order by salary desc
select id from emp e1 where (select count(*) from emp e2 where e2.dept_id = e1.dept_id and e2.salary > e1.salary) = 0 order by id
select (select max(id) from emp e2 where e2.dept_id = e1.dept_id and e2.id < e1.id) prev, id from emp e1 order by id
select d.id, (select avg(e.salary) from emp e where e.dept_id = d.id) a, (select min(s.day) from sales s join emp e on e.id = s.emp_id where e.dept_id = d.id) m from dept d order by d.id
select d.id from dept d where 2 < (select count(*) from emp where dept_id = d.id) order by 1
select d.id from dept d where not exists (select * from emp e where e.dept_id = d.id and e.active) order by 1
select id from emp where (select max(qty) from sales where emp_id = emp.id) > 5 order by id
select id from emp where id in (select emp_id from sales where sales.qty > emp.id) order by id
select id from emp where id not in (select emp_id from sales where amount > 500 and emp_id is not null) order by id
select id from emp where dept_id <> all (select id from dept where city = 'Paris') order by id
select dept_id, count(*) from emp group by dept_id having count(*) > (select avg(n) from (select count(*) n from emp group by dept_id)) order by 1
select name, (select name from dept where id = emp.dept_id) d from emp order by d nulls first, name desc
with t as (select * from emp where active) select a.id, b.id from t a join t b on a.dept_id = b.dept_id and a.id < b.id order by 1, 2
with recursive d as (select date '2024-01-01' as x union all select x + interval '1 week' from d where x < date '2024-03-01') select d.x, count(s.id) from d left join sales s on s.day = d.x group by d.x order by d.x
with recursive up as (select id, boss_id, name::varchar as path from emp where boss_id is null union all select e.id, e.boss_id, up.path || '/' || e.name from emp e join up on e.boss_id = up.id) select id, path from up order by id
select region, string_agg(distinct note, ',' order by note) from sales group by region order by region
select region, array_agg(distinct qty order by qty desc) from sales group by region order by region
select count(distinct case when qty > 3 then emp_id end), count(distinct emp_id) filter (where qty > 3) from sales
