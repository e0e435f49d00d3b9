<?php
// Written by the role chat_server: nothing here asks a server outside the lab.
$cfg['VersionCheck'] = false;
$cfg['SendErrorReports'] = 'never';
$cfg['PmaNoRelation_DisableWarning'] = true;
$cfg['LoginCookieValidityDisableWarning'] = true;
