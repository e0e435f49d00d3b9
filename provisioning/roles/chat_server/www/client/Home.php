<?php
// Figure 8: the user's own page; its three links lead to the other machine's server.
declare(strict_types=1);
require __DIR__ . '/../../lib/chat.php';

$settings = require __DIR__ . '/../../settings.php';
$server = 'http://' . $settings['other'] . '/server/';
page('CLIENT-SERVER CHAT ROOM', '<ul class="tiles">
<li><a href="' . e($server) . 'PostHome.php">Post Chat</a></li>
<li><a href="' . e($server) . 'Incoming.php">View Incoming Chat</a></li>
<li><a href="' . e($server) . 'Outgoing.php">View Outgoing Chat</a></li>
</ul>
<p class="quiet">The links above lead to ' . e($settings['other_name']) . ', '
. e($settings['other']) . '. On this machine, ' . e($settings['name']) . ':</p>
<nav><a href="/server/PostHome.php">Post Chat</a><a href="/server/Incoming.php">Incoming</a>'
. '<a href="/server/Outgoing.php">Outgoing</a><a href="/phpmyadmin/">Repository (phpMyAdmin)</a></nav>');
