select id from emp where dept_id is null
select id from emp where dept_id is not null and bonus is null
select id from emp where dept_id in (1, 3)
select id from emp where dept_id not in (1, 2, 3)
select id from emp where name in ('Ada', 'Tom', 'nobody')
select id from emp where salary between 6000 and 6500
select id from emp where salary not between 5500 and 7300
select id from emp where not (dept_id = 1)
select id from emp where dept_id = 1 and (salary > 6000 or bonus > 100)
select id from emp where active
select id from emp where not active
select id from emp where active is null
select id from emp where active is true
select id from emp where active is not true
select id from emp where active is false
select id from emp where dept_id <> 2
select id from emp where dept_id != 2
select id from emp where dept_id is distinct from 2
select id from emp where dept_id is not distinct from boss_id
select name from emp where name like 'A%'
select name from emp where name like '%a'
select name from emp where name like '%i%'
select name from emp where name like '_o%'
select name from emp where name not like '%a%'
select name from emp where name ilike 'e%'
select name from emp where name ilike '%A'
select id from sales where note like '50\%%' escape '\'
select id from sales where note like 'a__' and id < 40
select name from emp where name similar to '(A|B)%'
select name from emp where name ~ '^[A-C]'
select name from emp where name !~ '[aeiou]'
select name from emp where name ~* '^a'
select id from emp where hired > date '2017-06-01'
select id from emp where hired between '2015-01-01' and '2015-12-31'
select id from emp where salary > 5000.50 and salary < 5600.75
select id from emp where bonus > 100.0
select id from emp where coalesce(bonus, 0) = 0
select id from emp where (bonus > 50) is null
select id from emp where id = dept_id
select i from nums where i > j
select i from nums where i + j > 5
select i, j from nums where i = 7 or j = 3
select i from nums where x > 0 and s <> 'apple'
select s from nums where s >= 'b'
select s from nums where s = ''
select s from nums where length(s) > 4
select i from nums where i in (select j from nums)
select i from nums where abs(i) > 6
select id from emp where id in (1) and name in ('Ada')
select id from emp where salary = 5000.00
