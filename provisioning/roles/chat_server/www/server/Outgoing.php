<?php
// Figure 13: what the user posted here.
declare(strict_types=1);
require __DIR__ . '/../../lib/chat.php';

table(true, 'Outgoing.php');
