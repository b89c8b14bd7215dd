select id, sum(salary) over (order by hired range between unbounded preceding and current row) as s from emp
select id, sum(id) over (order by dept_id range unbounded preceding) as s from emp
select id, count(*) over (order by dept_id range between unbounded preceding and current row) as n from emp
select id, sum(id) over (order by dept_id range between current row and current row) as s from emp
select id, sum(id) over (order by dept_id range between current row and unbounded following) as s from emp
select id, min(salary) over (partition by dept_id order by active range between unbounded preceding and current row) as m from emp
select id, sum(id) over (order by dept_id range between unbounded preceding and unbounded following) as s from emp
select id, sum(qty) over (partition by region order by day range between unbounded preceding and current row) as s from sales
select id, sum(id) over (order by dept_id groups between unbounded preceding and current row) as s from emp
select id, max(id) over (partition by active order by dept_id groups between unbounded preceding and current row) as m from emp
select id, count(*) over (order by dept_id groups between current row and unbounded following) as n from emp
select id, sum(id) over (order by id rows between current row and unbounded following) as s from emp
select id, sum(id) over (order by id rows between 2 preceding and current row) as s from emp
select id, avg(bonus) over (partition by dept_id order by id rows between unbounded preceding and current row) as a from emp
select id, sum(id) over w as s, count(*) over w as n from emp window w as (order by dept_id range unbounded preceding)
select id, sum(id) over (order by dept_id desc nulls last, active range unbounded preceding) as s from emp
select id, sum(id) over (order by dept_id, active desc nulls last groups between unbounded preceding and current row) as s from emp
select id, first_value(id) over (order by dept_id, id range between unbounded preceding and current row) as f from emp
select id, last_value(id) over (partition by dept_id order by id rows between unbounded preceding and unbounded following) as l from emp
