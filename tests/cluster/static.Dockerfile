# One static program and nothing else: the pause process, CoreDNS and the S3 server of the test cluster.
FROM scratch
COPY program /program
USER 65532:65532
ENTRYPOINT ["/program"]
