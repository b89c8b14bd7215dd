select id, row_number() over (order by id) from emp
select id, row_number() over (order by salary desc) from emp
select id, row_number() over (partition by dept_id order by salary) from emp
select id, row_number() over (partition by dept_id order by salary desc, id) from emp
select id, rank() over (order by dept_id) from emp where dept_id is not null
select id, dense_rank() over (order by dept_id) from emp where dept_id is not null
select id, rank() over (partition by region order by qty) from sales where id < 40
select id, rank() over (partition by region order by qty desc, day) from sales where id < 40
select id, dense_rank() over (partition by region order by qty desc, emp_id) from sales where id < 40
select id, rank() over (order by qty desc, region, day desc) from sales where id < 30
select id, sum(qty) over (partition by region) from sales where id < 30
select id, count(*) over (partition by dept_id) from emp
select id, avg(salary) over (partition by dept_id) from emp
select id, max(salary) over () from emp
select id, salary - avg(salary) over (partition by dept_id) as diff from emp
select id, sum(qty) over (order by id) from sales where id < 20
select id, sum(qty) over (partition by region order by id) from sales where id < 40
select id, sum(qty) over (partition by region order by day, id) from sales where id < 40
select id, sum(qty) over (order by id rows between 2 preceding and current row) from sales where id < 20
select id, sum(qty) over (partition by region order by id rows between 1 preceding and current row) from sales where id < 20
select id, avg(qty) over (order by id rows between 1 preceding and 1 following) from sales where id < 20
select id, sum(qty) over (order by id rows between unbounded preceding and current row) from sales where id < 20
select id, sum(qty) over (order by id rows between current row and unbounded following) from sales where id < 20
select id, min(qty) over (order by id rows between 3 preceding and current row) from sales where id < 20
select id, max(qty) over (partition by region order by id) from sales where id < 30
select id, min(qty) over (partition by region order by id desc) from sales where id < 30
select id, count(*) over (partition by region order by id) from sales where id < 30
select id, lag(qty) over (order by id) from sales where id < 15
select id, lead(qty) over (order by id) from sales where id < 15
select id, lag(qty, 2) over (partition by region order by id) from sales where id < 30
select id, lag(qty, 1, 0) over (partition by region order by id) from sales where id < 30
select id, lead(name, 1, 'none') over (partition by dept_id order by id) from emp
select id, first_value(name) over (partition by dept_id order by salary) from emp
select id, last_value(name) over (partition by dept_id order by id rows between unbounded preceding and unbounded following) from emp
select id, first_value(qty) over (partition by region order by qty desc, id) from sales where id < 40
select id, rank() over (order by salary) as r from emp qualify r <= 3
select id from emp qualify row_number() over (partition by dept_id order by salary desc) = 1
select id, name from emp where dept_id is not null qualify dense_rank() over (partition by dept_id order by salary desc, id) <= 2
select * from (select id, row_number() over (partition by dept_id order by hired) as r from emp) t where r = 1
select region, sum(qty), rank() over (order by sum(qty) desc) from sales group by region
select region, sum(qty) as s, sum(sum(qty)) over () as total from sales group by region
select dept_id, count(*), row_number() over (order by count(*) desc, dept_id) from emp group by dept_id
select region, day, sum(qty) as q, sum(sum(qty)) over (partition by region order by day) as running from sales where id < 30 group by region, day
select id, sum(amount) over w, count(*) over w from sales where id < 30 window w as (partition by region order by id)
select id, sum(qty) over a, max(qty) over b from sales where id < 25 window a as (order by id), b as (partition by region)
select id, ntile(4) over (order by id) from emp
select id, percent_rank() over (order by id) from emp where id < 6
select id, cume_dist() over (order by id) from emp where id < 6
select id, nth_value(name, 2) over (order by id) from emp where id < 6
select id, case when rank() over (order by salary desc) <= 2 then 'top' else 'rest' end as c from emp
select id, salary / sum(salary) over (partition by dept_id) as share from emp where dept_id = 1
select i, rank() over (order by i desc nulls last, j) from nums where j is not null
select i, row_number() over (order by i nulls first, x) from nums
select id, row_number() over (partition by active, dept_id order by id) from emp
select id, sum(salary) over (order by id) from emp
select id, count(bonus) over (order by id) from emp
select id, avg(bonus) over (partition by dept_id order by id rows between 1 preceding and current row) from emp
select distinct dept_id, count(*) over (partition by dept_id) as n from emp
select id, row_number() over (order by length(name), name desc) from emp
select id, rank() over (partition by extract(month from day) order by qty desc, id desc) from sales where id < 40
select id, sum(id) over (order by dept_id, id) as a, sum(id) over (order by dept_id desc nulls last, id) as b, sum(id) over (order by dept_id nulls first, id desc) as c from emp
select id, rank() over (partition by active order by dept_id desc, id) as a, row_number() over (partition by active order by dept_id desc nulls last, id) as b from emp
