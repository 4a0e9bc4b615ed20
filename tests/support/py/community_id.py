"""The reference implementation of Community ID: reads `client port server port seed` lines, writes an ID for each."""

import sys

import communityid

for line in sys.stdin:
    client, client_port, server, server_port, seed = line.split()
    made = communityid.FlowTuple.make_tcp(client, server, int(client_port), int(server_port))
    print(communityid.CommunityID(seed=int(seed)).calc(made))
