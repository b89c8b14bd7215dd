select extract(year from hired), extract(month from hired), extract(day from hired) from emp where id < 5
select extract(quarter from hired), extract(week from hired) from emp where id < 5
select extract(dow from hired), extract(isodow from hired), extract(doy from hired) from emp where id < 5
select extract(hour from at), extract(minute from at) from sales where id < 5
select date_part('year', hired) from emp where id < 4
select year(hired), month(hired), day(hired) from emp where id < 4
select date_trunc('month', hired) from emp where id < 5
select date_trunc('year', day) as y, count(*) from sales group by date_trunc('year', day)
select date_trunc('hour', at) from sales where id < 5
select date '2024-01-31' + interval '1 month'
select date '2024-03-31' - interval '1 month'
select hired + interval '10 days' from emp where id < 4
select hired - interval '1 year' from emp where id < 4
select at + interval '90 minutes' from sales where id < 4
select at - interval '1 day 2 hours' from sales where id < 4
select hired - date '2015-01-01' from emp where id < 4
select day from sales where day >= date '2024-02-01' and day < date '2024-02-01' + interval '1 week'
select timestamp '2024-05-06 07:08:09'
select cast(at as date) from sales where id < 4
select cast('2024-05-06 07:08:09' as timestamp)
select strftime(hired, '%Y-%m') from emp where id < 4
select strptime('06/05/2024', '%d/%m/%Y')
select min(day), max(day), max(day) - min(day) from sales
select extract(month from day) as m, count(*), min(at) from sales group by m order by m
select id from emp where extract(year from hired) = 2016
select id from emp where hired in (date '2015-01-31', date '2016-02-01')
select case when hired < date '2016-01-01' then 'old' else 'new' end as c, count(*) from emp group by c
select time '10:20:30'
select date_part('month', at), date_part('second', at) from sales where id < 3
select current_date > date '2020-01-01'
