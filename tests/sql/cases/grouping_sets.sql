select dept_id, active, count(*) from emp group by rollup (dept_id, active)
select region, qty, sum(amount) from sales where qty < 3 group by rollup (region, qty)
select region, qty, count(*) from sales where qty < 2 group by cube (region, qty)
select region, qty, count(*) from sales where qty < 3 group by grouping sets ((region), (qty))
select region, qty, count(*) from sales where qty < 3 group by grouping sets ((region, qty), (region), ())
select region, count(*) from sales group by rollup (region)
select region, sum(qty), grouping(region) from sales group by rollup (region)
select dept_id, count(*) as n from emp group by rollup (dept_id) having count(*) > 2
select region, sum(amount) as s from sales group by cube (region) order by s
select region, extract(month from day) as m, sum(qty) from sales group by rollup (region, m)
