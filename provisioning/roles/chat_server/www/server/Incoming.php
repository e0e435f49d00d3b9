<?php
// Figure 12: what the others posted here.
declare(strict_types=1);
require __DIR__ . '/../../lib/chat.php';

table(false, 'Incoming.php');
