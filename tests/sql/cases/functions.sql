select i, abs(i), sign(i) from nums
select x, ceil(x), floor(x) from nums
select x, round(x, 1), round(x) from nums where x <> 2.5 and x <> 0.5 and x <> 1.5 and x <> -2.25 and x <> -0.5
select x, sqrt(abs(x)) from nums where x < 100
select x, exp(x) from nums where x < 5
select x, ln(x), log10(x), log2(x) from nums where x > 0
select i, pow(i, 2), power(i, 3) from nums where i < 10
select i, mod(i, 3) from nums where i > 0
select cbrt(27.0), pi() > 3.14
select sin(x), cos(x), tan(x) from nums where x < 5
select asin(0.5), acos(0.5), atan(0.5), atan2(1, 2)
select degrees(3.14159), radians(180.0)
select greatest(i, j), least(i, j) from nums where i is not null and j is not null
select coalesce(i, j, 0) from nums
select coalesce(s, 'none') from nums
select nullif(i, 7) from nums
select ifnull(i, -1) from nums
select case when i > 5 then 'big' when i > 0 then 'small' else 'none' end from nums
select case i when 1 then 'one' when 7 then 'seven' end from nums
select case when i is null then 0 else i * 2 end from nums
select if(i > 3, 'y', 'n') from nums where i is not null
select upper(s), lower(s), length(s) from nums
select char_length(name), octet_length(name) from emp where id = 7
select s || '!' from nums
select 'a' || 'b' || 'c'
select concat(s, '-', i) from nums where s is not null and i is not null
select concat_ws('-', s, i, j) from nums
select substr(s, 2, 3), substring(s from 1 for 2) from nums
select left(s, 2), right(s, 2) from nums
select trim(s), ltrim(s), rtrim(s) from nums where s = ' pad '
select trim(both 'a' from s) from nums
select replace(s, 'a', 'o') from nums
select reverse(s) from nums
select lpad(s, 6, '*'), rpad(s, 6, '*') from nums where s is not null
select starts_with(s, 'a'), ends_with(s, 'y') from nums
select strpos(s, 'a') from nums
select position('an' in s) from nums
select split_part(s, ',', 2) from nums
select regexp_replace(s, '[0-9]', '#') from nums
select regexp_like(s, '^[a-z]+$') from nums
select repeat(s, 2) from nums where i = 1
select ascii('A'), chr(66)
select bit_length('abc')
select string_to_array(s, ',') from nums where s like '%,%'
select cast(i as varchar), cast(x as bigint) from nums where x < 1000 and x <> 0.5 and x <> 1.5 and x <> 2.5 and x <> -0.5 and x <> -2.25 and x <> 10.125
select cast('12' as integer), '3.5'::double, cast('2024-02-29' as date)
select cast(s as integer) from nums where s in ('42', '-7')
select try_cast(s as integer) from nums
select i::varchar || 'x' from nums where i > 0
select cast(i as double) / 2 from nums
select cast(salary as integer) from emp where id in (1, 5, 9)
select cast(true as integer), cast(0 as boolean)
select cast(amount as double) from sales where id < 5
select cast(id as decimal(10, 2)) / 3 from dept
select i & 3, i | 8, xor(i, 1) from nums where i > 0
select i in (1, 2), i between 1 and 3, i is null from nums
select md5('abc')
select greatest(1, 2, 3), least('b', 'a')
select log(100, 10), log(2.0, 8.0)
select round(salary, 1), round(salary) from emp where id in (2, 6)
select salary % 1000 from emp where id < 5
select amount * 1.1, amount + 0.05, amount - 1 from sales where id < 5
select amount / 3, amount * amount from sales where id < 5
select sum(amount * (1 - 0.05)) from sales
select sum(amount * 1.05 * qty) from sales
select avg(amount * 2) from sales
select i * 1.5, x * 2 from nums where i < 4
select 10 / 4, 10 / 4.0, -7 / 2, -7 // 2, -7 % 3
select 0.1 + 0.2, 1.10 * 2.20
select initcap(s) from nums
select initcap('foo bar-baz o''neil 1st x1y_z  ÉTÉ ΟΔΟΣ')
select distinct initcap(note) as n from sales
select initcap(region) as r, count(*) as n from sales group by initcap(region)
select max(initcap(name)) as m, dept_id from emp group by dept_id
select id, array_dot_product(a, a) as x, array_inner_product(b, b) as y, array_dot_product(e, e) as z from vecs
select sum(array_dot_product(a, b)) as s from vecs
select bitand(i, 6) as a, bitor(i, 6) as b, bitxor(i, 6) as c, bitnot(i) as d, bitcount(i) as e from nums where i >= 0
select dayofmonth(hired) as a, dayofweek(hired) as b, dayofyear(hired) as c, quarter(hired) as d, week(hired) as e from emp
select covar(i, x) as a, var(x) as b, stdev(x) as c, stdev_samp(j) as d from nums
select region, qty, grouping_id(region, qty) as g, count(*) as n from sales where qty < 3 group by cube (region, qty)
select j, range(j, i) as r from nums where i > j
