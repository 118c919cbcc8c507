"""Averages of weights equal torch's, and leave the weights as they were."""

import torch
from torch import nn
from torch.optim import swa_utils

from discern.training.averaging import Averages, Lookahead


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def moved(net, optimizer):
    optimizer.zero_grad()
    net(torch.randn(6, 3, 4, 4)).square().sum().backward()
    optimizer.step()


def test_an_exponential_average_is_torchs():
    net = network()
    average = Averages(net.state_dict())
    torchs = swa_utils.AveragedModel(net, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True)
    torchs.update_parameters(net)  # its first update copies
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    for _ in range(5):
        moved(net, optimizer)
        average.follow(1 - 0.9)
        torchs.update_parameters(net)
    for name, value in torchs.module.named_parameters():
        torch.testing.assert_close(average.followed[name], value)
    torch.testing.assert_close(average.followed["1.running_mean"], torchs.module[1].running_mean)


def test_a_mean_of_ends_is_torchs():
    net = network()
    average, torchs = Averages(net.state_dict()), swa_utils.AveragedModel(net)
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    for count in range(1, 6):
        moved(net, optimizer)
        average.follow(1 / count)
        torchs.update_parameters(net)
    for name, value in torchs.module.named_parameters():
        torch.testing.assert_close(average.followed[name], value)


def test_the_average_stands_in_for_the_weights_and_goes_again():
    net = network()
    average = Averages(net.state_dict())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    moved(net, torch.optim.SGD(net.parameters(), 0.05))
    after = {name: value.clone() for name, value in net.state_dict().items()}
    with average.in_place():
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(value, after[name]) for name, value in net.state_dict().items())
    assert not torch.equal(before["0.weight"], after["0.weight"])


def test_lookahead_is_its_formula():
    net = nn.Linear(3, 2)
    slow, optimizer = net.weight.detach().clone(), torch.optim.SGD(net.parameters(), 0.1)
    lookahead = Lookahead({"weight": net.weight})
    for step in range(1, 10):
        optimizer.zero_grad()
        net(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        if step % 3 == 0:
            slow = slow + 0.5 * (net.weight.detach() - slow)
            lookahead.meet()
            torch.testing.assert_close(net.weight.detach(), slow)
