select name from emp where salary > any (select salary from emp where dept_id = 2) order by name
select name from emp where salary > all (select salary from emp where dept_id = 4) order by name
select id from emp where salary >= all (select salary from emp) order by id
select id from emp where bonus > all (select bonus from emp where dept_id = 1) order by id
select id from emp where bonus < any (select bonus from emp where dept_id = 77) order by id
select id from emp where bonus < all (select bonus from emp where dept_id = 77) order by id
select id from emp where hired <= any (select hired from emp where active) order by id
select id from emp where name < all (select name from emp where dept_id = 2) order by id
select dept_id, count(*) from emp group by dept_id having max(salary) > any (select salary from emp where active) order by dept_id nulls last
select a.id from emp a join emp b on a.id = b.boss_id group by a.id having count(*) >= all (select count(*) from emp where boss_id is not null group by boss_id)
select i, i > any (select j from nums) a, i > all (select j from nums) b, i <= any (select j from nums where j > 4) c, i < all (select j from nums where j > 4) d from nums order by i, x
select i, i = any (select j from nums) a, i <> all (select j from nums) b, j = any (select i from nums) c, x = any (select i from nums where i is not null) d from nums order by i, x
select i, i <> all (select j from nums where j is not null) a, i = any (select j from nums where j > 99) b, i in (select j from nums where j is not null) c from nums order by i, x
select id from dept where name = any (select name from emp) or id = any (select dept_id from emp where active) order by id
select id from sales where amount = any (select amount from sales where qty = 7) and region <> all (select region from sales where id < 2) order by id
select region, array_agg(qty order by id) filter (where qty > 4) a, array_agg(id order by day desc, id) filter (where qty = 3) b from sales group by region order by region
select dept_id, string_agg(name, ',' order by name desc) filter (where active) a, array_agg(id order by id desc) filter (where salary > 6000) b from emp group by dept_id order by dept_id nulls last
select string_agg(name, '' order by salary, id) filter (where id > 15) a, string_agg(name, '' order by id) filter (where id > 99) b from emp
select $$it's$$ a, $tag$a $$ b$tag$ b
