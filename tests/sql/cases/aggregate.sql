select count(*), count(dept_id), count(distinct dept_id) from emp
select sum(salary), min(salary), max(salary) from emp
select avg(salary) from emp
select avg(bonus), sum(bonus) from emp
select min(name), max(name) from emp
select min(hired), max(hired) from emp
select dept_id, count(*) from emp group by dept_id
select dept_id, sum(salary) from emp group by dept_id
select dept_id, avg(salary) as a from emp group by dept_id
select dept_id, min(name), max(name) from emp group by dept_id
select dept_id, count(bonus), count(*) from emp group by dept_id
select dept_id, sum(bonus) from emp group by dept_id
select dept_id, count(distinct boss_id) from emp group by dept_id
select dept_id, active, count(*) from emp group by dept_id, active
select region, sum(amount), sum(qty) from sales group by region
select region, sum(amount * qty) from sales group by region
select region, sum(amount) / sum(qty) from sales group by region
select region, count(*) filter (where qty > 3) from sales group by region
select region, sum(amount) filter (where note = 'ok') from sales group by region
select region, sum(case when qty > 3 then amount else 0 end) from sales group by region
select extract(month from day) as m, count(*) from sales group by m
select extract(month from day) as m, sum(amount) from sales group by extract(month from day)
select dept_id, count(*) as n from emp group by dept_id having count(*) > 3
select dept_id, sum(salary) as s from emp group by dept_id having sum(salary) > 20000 and dept_id is not null
select dept_id from emp group by dept_id having min(salary) > 5500
select region, qty, count(*) from sales group by region, qty having count(*) >= 5
select dept_id, count(*) from emp group by 1
select dept_id, count(*) from emp group by all
select qty % 2 as odd, count(*) from sales group by qty % 2
select qty % 2 as odd, count(*) from sales group by odd
select stddev(salary), variance(qty) from emp, sales where emp.id = sales.emp_id
select stddev(x), variance(x) from nums
select stddev_pop(x) from nums
select var_pop(x) from nums
select var_samp(x), stddev_samp(x) from nums
select median(x) from nums
select dept_id, median(salary) from emp group by dept_id
select quantile_cont(x, 0.25) from nums
select quantile_disc(x, 0.5) from nums
select corr(i, x) from nums
select covar_samp(i, x) from nums
select covar_pop(i, x) from nums
select string_agg(name, ',' order by name) from emp where dept_id = 1
select dept_id, string_agg(name, '-' order by name desc) from emp group by dept_id
select array_agg(id order by id) from emp where dept_id = 2
select first_value(id) over (order by id) as f from emp where id < 3
select sum(distinct qty) from sales
select avg(distinct qty) from sales
select count(distinct region) from sales
select count(distinct note), count(note) from sales
select sum(i), sum(j), sum(i + j) from nums
select max(i) - min(i) from nums
select sum(i) from nums where i > 1000
select count(*) from nums where i > 1000
select max(s), min(s) from nums
select sum(1) from emp
select dept_id, sum(salary) * 2 as d, count(*) + 1 as c from emp group by dept_id
select upper(region) as r, count(*) from sales group by upper(region)
select dept_id is null as missing, count(*) from emp group by dept_id is null
select avg(amount) from sales where amount is not null
select region, min(at), max(at) from sales group by region
select region, max(qty) - min(qty) as spread from sales group by region order by region
select count(*) from (select distinct region, qty from sales)
select region from sales group by region
select max(salary) from emp group by dept_id
select bool_and(active) from emp where id < 0 or active is not null and false
select bit_and(i), bit_or(i), bit_xor(i) from nums where i > 0
select a, sum(c) from empty group by a
